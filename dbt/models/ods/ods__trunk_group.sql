-- Grain: one trunk group (trunk_group_id).
with

trunk_group as (

    select * from {{ source('raw', 'settlement_trunk_group') }}

),

final as (

    select
        cast(trunk_group_id as {{ dbt.type_string() }}) as trunk_group_id,
        cast(operator_code as {{ dbt.type_string() }}) as operator_code,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from trunk_group

)

select * from final
