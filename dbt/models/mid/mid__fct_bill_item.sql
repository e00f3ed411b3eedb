-- Grain: one part of a bill item (bill_item_key).
with

bill_item as (

    select * from {{ ref('billing__bill_item') }}

),

dim_bill_item as (

    select * from {{ ref('mid__dim_bill_item') }}

),

-- What nobody listed as collected for others is ours.
classed as (

    select
        bill_item.*,
        coalesce(dim_bill_item.is_revenue, true) as is_revenue
    from bill_item
    left join dim_bill_item
        on bill_item.bill_item_code = dim_bill_item.bill_item_code

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
        cast(is_revenue as boolean) as is_revenue,
        cast(item_kind as {{ dbt.type_string() }}) as item_kind,
        cast(discount_id as {{ dbt.type_string() }}) as discount_id,
        cast(discount_name_zh as {{ dbt.type_string() }}) as discount_name_zh,
        cast(discount_name_en as {{ dbt.type_string() }}) as discount_name_en,
        cast(other_account_id as {{ dbt.type_string() }}) as other_account_id,
        cast(quantity as bigint) as quantity,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(charge_amount as decimal(18, 6)) as charge_amount,
        cast(base_amount as decimal(18, 2)) as base_amount,
        cast(amount as decimal(18, 2)) as amount,
        cast(tax_class as {{ dbt.type_string() }}) as tax_class,
        cast(tax_rate_percent as decimal(9, 4)) as tax_rate_percent,
        cast(tax_amount as decimal(18, 2)) as tax_amount,
        cast(net_amount as decimal(18, 2)) as net_amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from classed

)

select * from final
