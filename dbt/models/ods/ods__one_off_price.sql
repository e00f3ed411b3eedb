-- Grain: one price of an occasion in a plan version (plan_version_id, occasion).
with

one_off_price as (

    select * from {{ source('raw', 'catalogue_one_off_price') }}

),

final as (

    select
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(occasion as {{ dbt.type_string() }}) as occasion,
        cast(amount as numeric(18, 6)) as amount,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from one_off_price

)

select * from final
