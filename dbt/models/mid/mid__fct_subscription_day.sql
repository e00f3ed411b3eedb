-- Grain: one subscription and civil day of its validity (subscription_id, usage_date).
-- The spine comes from validity, not from usage, so silent days are there too.
with

dim_subscription as (

    select * from {{ ref('mid__dim_subscription') }}

),

dim_date as (

    select * from {{ ref('mid__dim_date') }}

),

fct_usage as (

    select * from {{ ref('mid__fct_usage') }}

),

fct_charge as (

    select * from {{ ref('mid__fct_charge') }}

),

used as (

    select
        subscription_id,
        usage_date,
        count(*) as usage_count,
        sum(case when direction = 'mo' then voice_seconds else 0 end) as voice_mo_seconds,
        sum(case when direction = 'mo' then 0 else voice_seconds end) as voice_mt_seconds,
        sum(sms_count) as sms_count,
        sum(data_octets) as data_octets
    from fct_usage
    where subscription_id is not null
    group by subscription_id, usage_date

),

charged as (

    select
        subscription_id,
        charge_date,
        sum(amount) as amount
    from fct_charge
    where charge_type = 'usage'
    group by subscription_id, charge_date

),

lived as (

    select
        dim_subscription.subscription_id,
        dim_subscription.province_code,
        dim_date.calendar_date as usage_date,
        dim_date.cycle_id,
        coalesce(used.voice_mo_seconds, 0) as voice_mo_seconds,
        coalesce(used.voice_mt_seconds, 0) as voice_mt_seconds,
        coalesce(used.sms_count, 0) as sms_count,
        coalesce(used.data_octets, 0) as data_octets,
        coalesce(used.usage_count, 0) as usage_count,
        coalesce(charged.amount, 0) as usage_charge_amount
    from dim_subscription
    inner join dim_date
        on dim_date.calendar_date >= dim_subscription.joined_date
        and (
            dim_date.calendar_date <= dim_subscription.last_valid_date
            or dim_subscription.last_valid_date is null
        )
    left join used
        on dim_subscription.subscription_id = used.subscription_id
        and dim_date.calendar_date = used.usage_date
    left join charged
        on dim_subscription.subscription_id = charged.subscription_id
        and dim_date.calendar_date = charged.charge_date

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(usage_date as date) as usage_date,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(voice_mo_seconds as bigint) as voice_mo_seconds,
        cast(voice_mt_seconds as bigint) as voice_mt_seconds,
        cast(sms_count as bigint) as sms_count,
        cast(data_octets as bigint) as data_octets,
        cast(usage_count as bigint) as usage_count,
        cast(usage_charge_amount as decimal(18, 6)) as usage_charge_amount,
        cast(usage_count > 0 as boolean) as is_active
    from lived

)

select * from final
