-- Grain: one promise of an account to pay for a line of another (payment_responsibility_id).
with

payment_responsibility as (

    select * from {{ source('raw', 'billing_payment_responsibility') }}

),

final as (

    select
        cast(payment_responsibility_id as {{ dbt.type_string() }}) as payment_responsibility_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(bill_item_codes as {{ dbt.type_string() }}) as bill_item_codes,
        cast(share_percent as numeric(9, 6)) as share_percent,
        cast(monthly_cap_amount as numeric(18, 2)) as monthly_cap_amount,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from payment_responsibility

)

select * from final
