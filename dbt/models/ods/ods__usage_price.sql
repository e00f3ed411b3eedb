-- Grain: one usage price (usage_price_id).
with

usage_price as (

    select * from {{ source('raw', 'catalogue_usage_price') }}

),

final as (

    select
        cast(usage_price_id as {{ dbt.type_string() }}) as usage_price_id,
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(charge_class as {{ dbt.type_string() }}) as charge_class,
        cast(band as {{ dbt.type_string() }}) as band,
        cast(model as {{ dbt.type_string() }}) as model,
        cast(connection_fee_amount as numeric(18, 6)) as connection_fee_amount,
        cast(minimum_amount as numeric(18, 6)) as minimum_amount,
        cast(maximum_amount as numeric(18, 6)) as maximum_amount,
        cast(repeat_quantity as numeric(24, 6)) as repeat_quantity,
        cast(rounding_mode as {{ dbt.type_string() }}) as rounding_mode,
        cast(rounding_digits as integer) as rounding_digits,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from usage_price

)

select * from final
