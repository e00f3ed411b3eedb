-- Grain: one source of usage files (source_id).
with

source as (

    select * from {{ source('raw', 'control_source') }}

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(format as {{ dbt.type_string() }}) as format,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(sequence_rule as {{ dbt.type_string() }}) as sequence_rule,
        cast(sequence_first as bigint) as sequence_first,
        cast(sequence_last as bigint) as sequence_last,
        cast(late_after_hours as integer) as late_after_hours,
        cast(country_code as {{ dbt.type_string() }}) as country_code,
        cast(area_code as {{ dbt.type_string() }}) as area_code,
        cast(split_at_midnight as boolean) as split_at_midnight,
        cast(_loaded_at as timestamp) as _loaded_at
    from source

)

select * from final
