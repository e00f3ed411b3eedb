-- Grain: one charge class (charge_class).
with

charge_class as (

    select * from {{ source('raw', 'catalogue_charge_class') }}

),

final as (

    select
        cast(charge_class as {{ dbt.type_string() }}) as charge_class,
        cast(parent_class as {{ dbt.type_string() }}) as parent_class,
        cast(before_class as {{ dbt.type_string() }}) as before_class,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(_loaded_at as timestamp) as _loaded_at
    from charge_class

)

select * from final
