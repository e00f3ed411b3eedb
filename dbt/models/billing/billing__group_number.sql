-- Grain: one number that reaches one member of a group while that holds (call_group_id, number,
-- valid_from): the member's own number, or the short one.
with

call_group_member as (

    select * from {{ ref('ods__call_group_member') }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

member as (

    select
        call_group_member.call_group_id,
        call_group_member.short_number,
        subscription.msisdn,
        greatest(call_group_member.valid_from, subscription.valid_from) as valid_from,
        least(
            coalesce(call_group_member.valid_to, {{ end_of_time() }}),
            coalesce(subscription.valid_to, {{ end_of_time() }})
        ) as valid_to
    from call_group_member
    inner join subscription
        on call_group_member.subscription_id = subscription.subscription_id

),

final as (

    select call_group_id, short_number as number, valid_from, valid_to
    from member
    where valid_from < valid_to

    union all

    select call_group_id, msisdn as number, valid_from, valid_to
    from member
    where valid_from < valid_to

)

select * from final
