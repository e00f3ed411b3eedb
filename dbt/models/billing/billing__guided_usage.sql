{{ config(materialized='incremental') }}

-- Grain: one usage (usage_id) that has an owner, a plan and a price.
-- Step 1 of rating: who pays, by what was valid at the event, not today. Usage that finds no owner,
-- plan, price or open cycle is in billing.suspended_usage.
with

classified_usage as (

    select * from {{ ref('billing__classified_usage') }}

),

plan_holding as (

    select * from {{ ref('billing__plan_holding') }}

),

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

guided as (

    select
        classified_usage.*,
        plan_holding.subscription_id,
        plan_holding.account_id,
        plan_holding.customer_id,
        plan_holding.province_code,
        plan_holding.offering_id,
        plan_holding.plan_version_id,
        usage_price.usage_price_id,
        usage_price.bill_item_code
    from classified_usage
    inner join plan_holding
        on classified_usage.served_msisdn = plan_holding.msisdn
        and classified_usage.started_at >= plan_holding.held_from
        and classified_usage.started_at < plan_holding.held_to
    inner join usage_price
        on plan_holding.plan_version_id = usage_price.plan_version_id
        and classified_usage.charge_class = usage_price.charge_class
    where classified_usage.cycle_id in {{ open_cycles() }}

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
        charge_date,
        _file_id
    from guided

)

select * from final
