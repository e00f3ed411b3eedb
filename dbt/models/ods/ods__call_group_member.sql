-- Grain: one subscription in one group with short numbers, while that holds (call_group_member_id).
with

call_group_member as (

    select * from {{ source('raw', 'crm_call_group_member') }}

),

final as (

    select
        cast(call_group_member_id as {{ dbt.type_string() }}) as call_group_member_id,
        cast(call_group_id as {{ dbt.type_string() }}) as call_group_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(short_number as {{ dbt.type_string() }}) as short_number,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from call_group_member

)

select * from final
