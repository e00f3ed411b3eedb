-- Grain: one payment (payment_id).
with

payment as (

    select * from {{ source('raw', 'billing_payment') }}

),

final as (

    select
        cast(payment_id as {{ dbt.type_string() }}) as payment_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        {{ utc_timestamp('paid_at') }} as paid_at,
        cast(amount as numeric(18, 2)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code,
        cast(channel as {{ dbt.type_string() }}) as channel,
        cast(idempotency_key as {{ dbt.type_string() }}) as idempotency_key,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from payment

)

select * from final
