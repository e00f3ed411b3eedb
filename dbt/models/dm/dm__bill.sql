-- Grain: one bill (account_id, cycle_id).
with

fct_bill as (

    select * from {{ ref('mid__fct_bill') }}

),

final as (

    select
        cast(bill_id as {{ dbt.type_string() }}) as bill_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(opening_amount as decimal(18, 2)) as opening_amount,
        cast(item_amount as decimal(18, 2)) as item_amount,
        cast(discount_amount as decimal(18, 2)) as discount_amount,
        cast(shared_amount as decimal(18, 2)) as shared_amount,
        cast(charge_amount as decimal(18, 2)) as charge_amount,
        cast(tax_amount as decimal(18, 2)) as tax_amount,
        cast(adjustment_amount as decimal(18, 2)) as adjustment_amount,
        cast(payment_amount as decimal(18, 2)) as payment_amount,
        cast(closing_amount as decimal(18, 2)) as closing_amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code,
        cast(content_hash as {{ dbt.type_string() }}) as content_hash
    from fct_bill

)

select * from final
