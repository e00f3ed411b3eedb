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

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

price_tier as (

    select * from {{ ref('ods__price_tier') }}

),

owned as (

    select distinct classified_usage.usage_id
    from classified_usage
    inner join subscription
        on classified_usage.served_msisdn = subscription.msisdn
        and classified_usage.started_at >= subscription.valid_from
        and (classified_usage.started_at < subscription.valid_to or subscription.valid_to is null)

),

suspended as (

    select
        classified_usage.*,
        case
            when billing_cycle.cycle_id is null then 'no_cycle'
            when billing_cycle.state = 'final' then 'cycle_closed'
            when owned.usage_id is null then 'no_subscription'
            when classified_usage.charge_class is null then 'no_zone'
            else 'no_plan_or_price'
        end as reason_code
    from classified_usage
    left join guided_usage
        on classified_usage.usage_id = guided_usage.usage_id
    left join billing_cycle
        on classified_usage.started_at >= billing_cycle.starts_at
        and classified_usage.started_at < billing_cycle.ends_at
    left join owned
        on classified_usage.usage_id = owned.usage_id
    where guided_usage.usage_id is null

),

valued as (

    select
        suspended.*,
        {{ divide_rounded(
            round_up_to('suspended.quantity', 'price_tier.increment_quantity')
            ~ ' * ' ~ to_micro('price_tier.price_amount'),
            'price_tier.per_quantity'
        ) }} as estimated_micro
    from suspended
    left join usage_price
        on usage_price.plan_version_id = '{{ var("suspense_plan_version_id") }}'
        and suspended.charge_class = usage_price.charge_class
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
