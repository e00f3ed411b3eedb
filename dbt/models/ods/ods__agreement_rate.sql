-- Grain: one rate of a version of an agreement (agreement_id, version_number, service, direction).
with

agreement_rate as (

    select * from {{ source('raw', 'settlement_agreement_rate') }}

),

final as (

    select
        cast(agreement_id as {{ dbt.type_string() }}) as agreement_id,
        cast(version_number as integer) as version_number,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(rate_amount as numeric(18, 6)) as rate_amount,
        cast(per_quantity as bigint) as per_quantity,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from agreement_rate

)

select * from final
