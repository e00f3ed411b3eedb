-- Grain: one subscription and civil day of its validity (subscription_id, usage_date).
with

fct_subscription_day as (

    select * from {{ ref('mid__fct_subscription_day') }}

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(usage_date as date) as usage_date,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(voice_mo_seconds as bigint) as voice_mo_seconds,
        cast(voice_mt_seconds as bigint) as voice_mt_seconds,
        cast(sms_count as bigint) as sms_count,
        cast(data_octets as bigint) as data_octets,
        cast(usage_charge_amount as decimal(18, 6)) as usage_charge_amount
    from fct_subscription_day

)

select * from final
