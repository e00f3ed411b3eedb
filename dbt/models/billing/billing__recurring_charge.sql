{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one product instance and cycle (product_instance_id, cycle_id).
-- The monthly fee, in proportion to the calendar days the product was held; the day of joining and
-- the day of leaving both count.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

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

held as (

    select
        product_instance.product_instance_id,
        product_instance.offering_id,
        subscription.subscription_id,
        subscription.account_id,
        account.customer_id,
        subscription.province_code,
        billing_cycle.cycle_id,
        billing_cycle.starts_at as cycle_starts_at,
        billing_cycle.ends_at as cycle_ends_at,
        greatest(
            product_instance.valid_from, subscription.valid_from, billing_cycle.starts_at
        ) as held_from,
        least(
            coalesce(product_instance.valid_to, billing_cycle.ends_at),
            coalesce(subscription.valid_to, billing_cycle.ends_at),
            billing_cycle.ends_at
        ) as held_to
    from product_instance
    inner join subscription
        on product_instance.subscription_id = subscription.subscription_id
    inner join account
        on subscription.account_id = account.account_id
    inner join billing_cycle
        on product_instance.valid_from < billing_cycle.ends_at
        and (
            product_instance.valid_to > billing_cycle.starts_at
            or product_instance.valid_to is null
        )

),

dated as (

    select
        held.*,
        cast({{ civil_time('cycle_starts_at') }} as date) as cycle_start_date,
        cast({{ civil_time('cycle_ends_at') }} as date) as cycle_end_date,
        cast({{ civil_time('held_from') }} as date) as first_date,
        cast({{ civil_time("held_to - interval '1 second'") }} as date) as last_date
    from held
    where held_from < held_to

),

counted as (

    select
        dated.*,
        {{ dbt.datediff('first_date', 'last_date', 'day') }} + 1 as held_days,
        {{ dbt.datediff('cycle_start_date', 'cycle_end_date', 'day') }} as cycle_days
    from dated

),

priced as (

    select
        counted.*,
        price_plan_version.plan_version_id,
        {{ to_micro('price_plan_version.monthly_fee_amount') }} * counted.held_days as fee_numerator
    from counted
    inner join price_plan_version
        on counted.offering_id = price_plan_version.offering_id
        and counted.held_from >= price_plan_version.valid_from
        and (
            counted.held_from < price_plan_version.valid_to or price_plan_version.valid_to is null
        )

),

rounded as (

    select
        priced.*,
        {{ divide_rounded('fee_numerator', 'cast(cycle_days as decimal(38, 0)) * 10000') }}
            * 10000 as amount_micro
    from priced

),

final as (

    select
        product_instance_id,
        cycle_id,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        held_from,
        first_date,
        last_date,
        cast(held_days as bigint) as held_days,
        cast(cycle_days as bigint) as cycle_days,
        {{ from_micro('amount_micro') }} as amount,
        {{ from_nano(
            'amount_micro * 1000 - ' ~ integer_divide('fee_numerator * 1000', 'cycle_days')
        ) }} as rounding_residue_amount
    from rounded

)

select * from final
