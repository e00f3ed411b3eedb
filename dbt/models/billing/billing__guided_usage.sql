{{ config(materialized='incremental') }}

-- Grain: one usage (usage_id) that has an owner, a plan and a price.
-- Step 1 of rating: who pays, by what was valid at the event, not today. Usage that finds no owner,
-- plan, price or open cycle is in billing.suspended_usage.
with

classified_usage as (

    select * from {{ ref('billing__classified_usage') }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

account as (

    select * from {{ ref('ods__account') }}

),

product_instance as (

    select * from {{ ref('ods__product_instance') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

guided as (

    select
        classified_usage.*,
        billing_cycle.cycle_id,
        subscription.subscription_id,
        subscription.account_id,
        account.customer_id,
        subscription.province_code,
        product_instance.offering_id,
        price_plan_version.plan_version_id,
        usage_price.usage_price_id,
        usage_price.bill_item_code
    from classified_usage
    inner join billing_cycle
        on classified_usage.started_at >= billing_cycle.starts_at
        and classified_usage.started_at < billing_cycle.ends_at
        and billing_cycle.state <> 'final'
    inner join subscription
        on classified_usage.served_msisdn = subscription.msisdn
        and classified_usage.started_at >= subscription.valid_from
        and (classified_usage.started_at < subscription.valid_to or subscription.valid_to is null)
    inner join account
        on subscription.account_id = account.account_id
    inner join product_instance
        on subscription.subscription_id = product_instance.subscription_id
        and product_instance.role = 'plan'
        and classified_usage.started_at >= product_instance.valid_from
        and (
            classified_usage.started_at < product_instance.valid_to
            or product_instance.valid_to is null
        )
    inner join price_plan_version
        on product_instance.offering_id = price_plan_version.offering_id
        and classified_usage.started_at >= price_plan_version.valid_from
        and (
            classified_usage.started_at < price_plan_version.valid_to
            or price_plan_version.valid_to is null
        )
    inner join usage_price
        on price_plan_version.plan_version_id = usage_price.plan_version_id
        and classified_usage.charge_class = usage_price.charge_class

),

final as (

    select
        usage_id,
        cycle_id,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        usage_price_id,
        bill_item_code,
        service,
        direction,
        case
            when is_abroad then 'international'
            when visited_province_code <> province_code then 'domestic'
            else 'home'
        end as roaming_class,
        charge_class,
        unit,
        quantity,
        started_at,
        cast(civil_started_at as date) as charge_date,
        _file_id
    from guided

)

select * from final
