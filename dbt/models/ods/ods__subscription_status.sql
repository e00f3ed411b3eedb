-- Grain: one status of a subscription, from one change to the next (subscription_status_id).
with

subscription_status as (

    select * from {{ source('raw', 'crm_subscription_status') }}

),

final as (

    select
        cast(subscription_status_id as {{ dbt.type_string() }}) as subscription_status_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(status as {{ dbt.type_string() }}) as status,
        {{ utc_timestamp('valid_from') }} as valid_from,
        lead({{ utc_timestamp('valid_from') }}) over (
            partition by subscription_id order by subscription_status_id
        ) as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from subscription_status

)

select * from final
