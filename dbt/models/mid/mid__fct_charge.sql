-- Grain: one charge (charge_key).
with

charge as (

    select * from {{ ref('billing__charge') }}

),

final as (

    select
        cast(charge_key as {{ dbt.type_string() }}) as charge_key,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(charge_type as {{ dbt.type_string() }}) as charge_type,
        cast(usage_id as {{ key_type() }}) as usage_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(charge_class as {{ dbt.type_string() }}) as charge_class,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(charge_date as date) as charge_date,
        cast(amount as decimal(18, 6)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from charge

)

select * from final
