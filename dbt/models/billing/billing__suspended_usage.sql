-- Grain: one usage (usage_id) that could not be rated, with the reason and an estimated value.
-- It is never dropped and never priced 0 in silence; once its cause is mended, the next run rates it.
with

classified_usage as (

    select * from {{ ref('billing__classified_usage') }}

),

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

plan_holding as (

    select * from {{ ref('billing__plan_holding') }}

),

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

price_tier as (

    select * from {{ ref('ods__price_tier') }}

),

suspended as (

    select
        classified_usage.*,
        exists (
            select 1 from subscription
            where subscription.msisdn = classified_usage.served_msisdn
                and classified_usage.started_at >= subscription.valid_from
                and classified_usage.started_at
                < coalesce(subscription.valid_to, {{ end_of_time() }})
        ) as is_owned,
        exists (
            select 1 from plan_holding
            inner join usage_price
                on plan_holding.plan_version_id = usage_price.plan_version_id
            where plan_holding.msisdn = classified_usage.served_msisdn
                and usage_price.charge_class = classified_usage.charge_class
                and classified_usage.started_at >= plan_holding.held_from
                and classified_usage.started_at < plan_holding.held_to
        ) as is_priced,
        billing_cycle.state as cycle_state
    from classified_usage
    left join guided_usage
        on classified_usage.usage_id = guided_usage.usage_id
    left join billing_cycle
        on classified_usage.cycle_id = billing_cycle.cycle_id
    where guided_usage.usage_id is null

),

explained as (

    select
        suspended.*,
        case
            when cycle_state is null then 'no_cycle'
            when not is_owned then 'no_subscription'
            when charge_class is null then 'no_zone'
            when not is_priced then 'no_plan_or_price'
            else 'cycle_closed'
        end as reason_code
    from suspended

),

valued as (

    select
        explained.*,
        {{ divide_rounded(
            round_up_to('explained.quantity', 'price_tier.increment_quantity')
            ~ ' * ' ~ to_micro('price_tier.price_amount'),
            'price_tier.per_quantity'
        ) }} as estimated_micro
    from explained
    left join usage_price
        on usage_price.plan_version_id = '{{ var("suspense_plan_version_id") }}'
        and explained.charge_class = usage_price.charge_class
    left join price_tier
        on usage_price.usage_price_id = price_tier.usage_price_id
        and price_tier.tier_number = 1

),

final as (

    select
        usage_id,
        reason_code,
        served_msisdn,
        service,
        charge_class,
        unit,
        quantity,
        started_at,
        {{ from_micro('estimated_micro') }} as estimated_amount,
        'CNY' as currency_code,
        _file_id
    from valued

)

select * from final
