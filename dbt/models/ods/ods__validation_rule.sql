-- Grain: one version of one validation rule (rule_id, version).
with

validation_rule as (

    select * from {{ source('raw', 'control_validation_rule') }}

),

final as (

    select
        cast(rule_id as {{ dbt.type_string() }}) as rule_id,
        cast(version as integer) as version,
        cast(rule_code as {{ dbt.type_string() }}) as rule_code,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(limit_value as bigint) as limit_value,
        cast(severity as {{ dbt.type_string() }}) as severity,
        {{ utc_timestamp('valid_from') }} as valid_from,
        coalesce({{ utc_timestamp('valid_to') }}, {{ end_of_time() }}) as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from validation_rule

)

select * from final
