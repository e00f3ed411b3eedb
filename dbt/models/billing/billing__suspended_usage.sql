-- Grain: one usage (usage_id) that is not billed, with the reason and an estimated value.
-- It is never dropped and never priced 0 in silence; once its cause is mended, the next run rates it.
-- What came for a closed cycle waits or is given up where its plan's policy says so.
with

stray as (

    select
        usage_id,
        stray_msisdn as served_msisdn,
        stray_service as service,
        stray_class as charge_class,
        case stray_service when 'voice' then 'second' when 'data' then 'octet' else 'event' end
            as unit,
        quantity_micro,
        started_at,
        _file_id
    from {{ ref('billing__usage_guide') }}
    where line_key is null

),

billed_cycle as (

    select * from {{ ref('billing__billed_cycle') }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

plan_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

class_price as (

    select * from {{ ref('billing__class_price') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

price_step as (

    select * from {{ ref('billing__price_step') }}

),

-- The plan at the event, whether or not it prices the class.
planned as (

    select stray.usage_id, min(price_plan_version.late_usage_policy) as late_usage_policy
    from stray
    inner join plan_holding
        on stray.served_msisdn = plan_holding.msisdn
        and stray.started_at >= plan_holding.held_from
        and stray.started_at < plan_holding.held_to
    inner join price_plan_version
        on plan_holding.plan_version_id = price_plan_version.plan_version_id
    group by stray.usage_id

),

suspended as (

    select
        stray.*,
        exists (
            select 1 from subscription
            where subscription.msisdn = stray.served_msisdn
                and stray.started_at >= subscription.valid_from
                and stray.started_at
                < coalesce(subscription.valid_to, {{ end_of_time() }})
        ) as is_owned,
        exists (
            select 1 from plan_holding
            inner join class_price
                on plan_holding.plan_version_id = class_price.plan_version_id
            where plan_holding.msisdn = stray.served_msisdn
                -- Content has a price whatever the plan.
                and stray.charge_class in (class_price.charge_class, 'vas_content')
                and stray.started_at >= plan_holding.held_from
                and stray.started_at < plan_holding.held_to
        ) as is_priced,
        planned.late_usage_policy,
        billed_cycle.cycle_id,
        billed_cycle.billed_cycle_id
    from stray
    left join billed_cycle
        on stray.started_at >= billed_cycle.starts_at
        and stray.started_at < billed_cycle.ends_at
    left join planned
        on stray.usage_id = planned.usage_id

),

explained as (

    select
        suspended.*,
        case
            when cycle_id is null then 'no_cycle'
            when not is_owned then 'no_subscription'
            when charge_class is null and service = 'vas' then 'unknown_content'
            when charge_class is null then 'no_zone'
            when not is_priced then 'no_plan_or_price'
            when billed_cycle_id is null then 'cycle_closed'
            when late_usage_policy = 'restate' then 'to_restate'
            else 'written_off'
        end as reason_code
    from suspended

),

default_version as (

    select plan_version_id, cost_denominator
    from price_plan_version
    where offering_id = '{{ var("suspense_offering_id") }}'
    order by valid_from desc
    limit 1

),

-- By the first step of the default plan's price, whatever its band: an estimate.
list_price as (

    select
        class_price.charge_class,
        default_version.cost_denominator,
        min(class_price.usage_price_id) as usage_price_id
    from class_price
    inner join default_version
        on class_price.plan_version_id = default_version.plan_version_id
    group by class_price.charge_class, default_version.cost_denominator

),

valued as (

    select
        explained.*,
        {{ divide_rounded(
            step_cost('explained.quantity_micro', 'price_step'), 'list_price.cost_denominator'
        ) }} as estimated_micro
    from explained
    left join list_price
        on explained.charge_class = list_price.charge_class
    left join price_step
        on list_price.usage_price_id = price_step.usage_price_id
        and price_step.step_number = 1

),

final as (

    select
        usage_id,
        reason_code,
        served_msisdn,
        service,
        charge_class,
        unit,
        quantity_micro,
        started_at,
        {{ from_micro('estimated_micro') }} as estimated_amount,
        'CNY' as currency_code,
        _file_id
    from valued

)

select * from final
