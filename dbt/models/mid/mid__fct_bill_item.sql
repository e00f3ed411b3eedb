-- Grain: one bill item (account_id, subscription_id, cycle_id, bill_item_code).
with

bill_item as (

    select * from {{ ref('billing__bill_item') }}

),

final as (

    select
        cast(bill_item_key as {{ dbt.type_string() }}) as bill_item_key,
        cast(bill_id as {{ dbt.type_string() }}) as bill_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(quantity as bigint) as quantity,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(charge_amount as decimal(18, 6)) as charge_amount,
        cast(amount as decimal(18, 2)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from bill_item

)

select * from final
