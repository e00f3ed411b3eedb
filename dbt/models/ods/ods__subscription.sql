-- Grain: one subscription (subscription_id).
with

subscription as (

    select * from {{ source('raw', 'crm_subscription') }}

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(msisdn as {{ dbt.type_string() }}) as msisdn,
        cast(imsi as {{ dbt.type_string() }}) as imsi,
        cast(service_type as {{ dbt.type_string() }}) as service_type,
        cast(payment_type as {{ dbt.type_string() }}) as payment_type,
        cast(status as {{ dbt.type_string() }}) as status,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from subscription

)

select * from final
