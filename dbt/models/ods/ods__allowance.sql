-- Grain: one allowance (allowance_id).
with

allowance as (

    select * from {{ source('raw', 'catalogue_allowance') }}

),

final as (

    select
        cast(allowance_id as {{ dbt.type_string() }}) as allowance_id,
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(size_quantity as numeric(24, 6)) as size_quantity,
        cast(priority as integer) as priority,
        cast(scope as {{ dbt.type_string() }}) as scope,
        cast(quantity_basis as {{ dbt.type_string() }}) as quantity_basis,
        cast(rounding_increment as numeric(24, 6)) as rounding_increment,
        cast(rollover_months as integer) as rollover_months,
        cast(_loaded_at as timestamp) as _loaded_at
    from allowance

)

select * from final
