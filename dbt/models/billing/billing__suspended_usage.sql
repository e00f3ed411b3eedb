-- Grain: one usage (usage_id) that could not be rated, with the reason and an estimated value.
-- It is never dropped and never priced 0 in silence; once its cause is mended, the next run rates it.
with

classified_usage as (

    select * from {{ ref('billing__classified_usage') }}

),

guided_usage as (

    select usage_id from {{ ref('billing__guided_usage') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

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

price_step as (

    select * from {{ ref('billing__price_step') }}

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
            inner join class_price
                on plan_holding.plan_version_id = class_price.plan_version_id
            where plan_holding.msisdn = classified_usage.served_msisdn
                and class_price.charge_class = classified_usage.charge_class
                and classified_usage.started_at >= plan_holding.held_from
                and classified_usage.started_at < plan_holding.held_to
        ) as is_priced,
        billing_cycle.state as cycle_state
    from classified_usage
    left join billing_cycle
        on classified_usage.started_at >= billing_cycle.starts_at
        and classified_usage.started_at < billing_cycle.ends_at
    where not exists (
        select 1 from guided_usage where guided_usage.usage_id = classified_usage.usage_id
    )

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

-- By the first step of the default plan's price, whatever its band: an estimate.
list_price as (

    select class_price.charge_class, min(class_price.usage_price_id) as usage_price_id
    from class_price
    where class_price.plan_version_id = '{{ var("suspense_plan_version_id") }}'
    group by class_price.charge_class

),

valued as (

    select
        explained.*,
        {{ divide_rounded(
            step_cost('explained.quantity_micro', 'price_step'), 'price_plan.cost_denominator'
        ) }} as estimated_micro
    from explained
    left join list_price
        on explained.charge_class = list_price.charge_class
    left join price_step
        on list_price.usage_price_id = price_step.usage_price_id
        and price_step.step_number = 1
    left join {{ ref('ods__price_plan_version') }} as price_plan
        on list_price.charge_class is not null
        and price_plan.plan_version_id = '{{ var("suspense_plan_version_id") }}'

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
