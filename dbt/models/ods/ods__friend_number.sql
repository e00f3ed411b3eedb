-- Grain: one number that one subscription named its friend, while that holds (friend_number_id).
with

friend_number as (

    select * from {{ source('raw', 'crm_friend_number') }}

),

final as (

    select
        cast(friend_number_id as {{ dbt.type_string() }}) as friend_number_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(number as {{ dbt.type_string() }}) as number,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from friend_number

)

select * from final
