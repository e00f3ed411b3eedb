{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one usage (usage_id) that has an owner, a plan and a price.
-- Step 1 of rating: who pays, by what was valid at the event, not today. Usage that finds no owner,
-- plan, price or open cycle is in billing.suspended_usage.
with

classified_usage as (

    select * from {{ ref('billing__classified_usage') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where state not in ('approved', 'final')

),

product_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

cycle_clock as (

    select * from {{ ref('billing__cycle_clock') }}

),

class_price as (

    select * from {{ ref('billing__class_price') }}

),

-- The plans held in each open cycle.
plan_in_cycle as (

    select
        product_holding.*,
        billing_cycle.cycle_id,
        cycle_clock.ahead_seconds,
        greatest(product_holding.held_from, billing_cycle.starts_at) as from_at,
        least(product_holding.held_to, billing_cycle.ends_at) as to_at
    from product_holding
    inner join billing_cycle
        on product_holding.held_from < billing_cycle.ends_at
        and product_holding.held_to > billing_cycle.starts_at
    inner join cycle_clock
        on billing_cycle.cycle_id = cycle_clock.cycle_id
        and product_holding.time_zone = cycle_clock.time_zone

),

owned as (

    select
        classified_usage.usage_id,
        classified_usage.service,
        classified_usage.direction,
        classified_usage.unit,
        classified_usage.quantity_micro,
        classified_usage.started_at,
        classified_usage.charge_class as general_class,
        classified_usage._file_id,
        plan_in_cycle.cycle_id,
        plan_in_cycle.subscription_id,
        plan_in_cycle.account_id,
        plan_in_cycle.customer_id,
        plan_in_cycle.province_code,
        plan_in_cycle.time_zone,
        plan_in_cycle.ahead_seconds,
        plan_in_cycle.offering_id,
        plan_in_cycle.plan_version_id,
        plan_in_cycle.calendar_id,
        plan_in_cycle.held_to,
        case
            when classified_usage.is_abroad then 'international'
            when classified_usage.visited_province_code <> plan_in_cycle.province_code
                then 'domestic'
            else 'home'
        end as roaming_class
    from classified_usage
    inner join plan_in_cycle
        on classified_usage.served_msisdn = plan_in_cycle.msisdn
        and classified_usage.started_at >= plan_in_cycle.from_at
        and classified_usage.started_at < plan_in_cycle.to_at

),

-- What only the owner's home tells of the class.
placed as (

    select
        owned.*,
        {{ class_at_home('owned.general_class', 'owned.roaming_class') }} as charge_class
    from owned

),

-- The price of a class; of one priced in bands, none yet.
priced_class as (

    select
        plan_version_id,
        charge_class,
        count(band) > 0 as is_banded,
        case when count(band) = 0 then min(usage_price_id) end as usage_price_id,
        min(bill_item_code) as bill_item_code
    from class_price
    group by plan_version_id, charge_class

),

final as (

    select
        placed.usage_id,
        placed.cycle_id,
        placed.subscription_id,
        placed.account_id,
        placed.customer_id,
        placed.province_code,
        placed.offering_id,
        placed.plan_version_id,
        priced_class.usage_price_id,
        priced_class.bill_item_code,
        placed.service,
        placed.direction,
        placed.roaming_class,
        placed.charge_class,
        placed.unit,
        placed.quantity_micro,
        placed.started_at,
        cast(
            case
                when placed.ahead_seconds is not null
                    then placed.started_at + placed.ahead_seconds * interval '1 second'
                else {{ civil_time('placed.started_at', 'placed.time_zone') }}
            end as date
        ) as charge_date,
        placed.time_zone,
        placed.calendar_id,
        priced_class.is_banded,
        -- Whether it may have to be split.
        priced_class.is_banded
        or (
            placed.unit = 'second'
            and {{ add_microseconds('placed.started_at', 'abs(placed.quantity_micro)') }}
            > placed.held_to
        ) as is_split,
        placed._file_id
    from placed
    inner join priced_class
        on placed.plan_version_id = priced_class.plan_version_id
        and placed.charge_class = priced_class.charge_class

)

select * from final
