-- Grain: one cycle and home province (cycle_id, province_code); 00 is the nation.
with

fct_subscription_month as (

    select * from {{ ref('mid__fct_subscription_month') }}

),

fct_bill_item as (

    select * from {{ ref('mid__fct_bill_item') }}

),

movement as (

    select
        cycle_id,
        province_code,
        case when is_at_start then 1 else 0 end as users_start,
        case when is_at_end then 1 else 0 end as users_end,
        case when is_new then 1 else 0 end as users_new,
        case when is_leaving then 1 else 0 end as users_leaving,
        case when is_active then 1 else 0 end as users_active,
        voice_mo_seconds + voice_mt_seconds as voice_seconds,
        data_octets,
        sms_count,
        cast(0 as decimal(18, 2)) as revenue_amount
    from fct_subscription_month

    union all

    select
        cycle_id,
        province_code,
        0 as users_start,
        0 as users_end,
        0 as users_new,
        0 as users_leaving,
        0 as users_active,
        0 as voice_seconds,
        0 as data_octets,
        0 as sms_count,
        amount as revenue_amount
    from fct_bill_item
    where is_revenue

),

provincial as (

    select
        cycle_id,
        province_code,
        sum(users_start) as users_start,
        sum(users_end) as users_end,
        sum(users_new) as users_new,
        sum(users_leaving) as users_leaving,
        sum(users_active) as users_active,
        sum(voice_seconds) as voice_seconds,
        sum(data_octets) as data_octets,
        sum(sms_count) as sms_count,
        sum(revenue_amount) as revenue_amount
    from movement
    where province_code <> '00'
    group by cycle_id, province_code

),

both_levels as (

    select * from provincial

    union all

    select
        cycle_id,
        '00' as province_code,
        sum(users_start) as users_start,
        sum(users_end) as users_end,
        sum(users_new) as users_new,
        sum(users_leaving) as users_leaving,
        sum(users_active) as users_active,
        sum(voice_seconds) as voice_seconds,
        sum(data_octets) as data_octets,
        sum(sms_count) as sms_count,
        sum(revenue_amount) as revenue_amount
    from provincial
    group by cycle_id

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(users_start as bigint) as users_start,
        cast(users_end as bigint) as users_end,
        cast(users_new as bigint) as users_new,
        cast(users_leaving as bigint) as users_leaving,
        cast(users_active as bigint) as users_active,
        cast(voice_seconds as bigint) as voice_seconds,
        cast(data_octets as bigint) as data_octets,
        cast(sms_count as bigint) as sms_count,
        cast(revenue_amount as decimal(18, 2)) as revenue_amount
    from both_levels

)

select * from final
