-- Grain: one commitment of a plan version (plan_version_id).
with

commitment as (

    select * from {{ source('raw', 'catalogue_commitment') }}

),

final as (

    select
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(months as integer) as months,
        cast(penalty_rule as {{ dbt.type_string() }}) as penalty_rule,
        cast(penalty_value as numeric(18, 6)) as penalty_value,
        cast(penalty_on as {{ dbt.type_string() }}) as penalty_on,
        cast(_loaded_at as timestamp) as _loaded_at
    from commitment

)

select * from final
