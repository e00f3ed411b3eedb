-- Grain: one plan of one line in the part of one cycle in which it was held (product_instance_id,
-- plan_version_id, cycle_id), and to which line in which cycle usage of it is billed.
-- Null where late usage of a closed cycle is not, by the policy of the plan.
with

billed_cycle as (

    select * from {{ ref('billing__billed_cycle') }}

),

product_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

cycle_clock as (

    select * from {{ ref('billing__cycle_clock') }}

),

final as (

    select
        product_holding.product_instance_id,
        billed_cycle.cycle_id,
        product_holding.subscription_id,
        {{ account_bin('product_holding.account_id') }} as account_bin,
        product_holding.msisdn,
        product_holding.province_code,
        product_holding.is_fixed_line,
        product_holding.home_area_code,
        product_holding.time_zone,
        product_holding.plan_version_id,
        product_holding.held_to,
        cycle_clock.ahead_seconds,
        billed_cycle.is_closed as is_late,
        greatest(product_holding.held_from, billed_cycle.starts_at) as from_at,
        least(product_holding.held_to, billed_cycle.ends_at) as to_at,
        case
            when not billed_cycle.is_closed or price_plan_version.late_usage_policy = 'next_bill'
                then {{ line_key(
                    'product_holding.subscription_id', 'billed_cycle.billed_cycle_id'
                ) }}
        end as line_key
    from product_holding
    inner join billed_cycle
        on product_holding.held_from < billed_cycle.ends_at
        and product_holding.held_to > billed_cycle.starts_at
        and billed_cycle.billed_cycle_id is not null
    inner join price_plan_version
        on product_holding.plan_version_id = price_plan_version.plan_version_id
    left join cycle_clock
        on billed_cycle.cycle_id = cycle_clock.cycle_id
        and product_holding.time_zone = cycle_clock.time_zone

)

select * from final
