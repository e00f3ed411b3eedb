{{ config(materialized='incremental') }}

-- Grain: one usage and one price component (usage_id, usage_price_id).
-- Steps 3, 5 and 6 of rating: what no allowance covered is rounded up to the tariff's increment and
-- priced. `slots` price each record alone; `graduated` prices the running total of the cycle, and a
-- record costs what it adds to that total's rounded cost, so the records add up to the total's.
with

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}
    where cycle_id in {{ open_cycles() }}

),

allowance_draw as (

    select
        usage_id,
        max(wanted_quantity) as wanted_quantity,
        sum(drawn_quantity) as drawn_quantity
    from {{ ref('billing__allowance_draw') }}
    group by usage_id

),

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

price_tier as (

    select * from {{ ref('ods__price_tier') }}

),

uncovered as (

    select
        guided_usage.*,
        usage_price.model,
        usage_price.repeat_quantity,
        usage_price.rounding_mode,
        usage_price.rounding_digits,
        first_tier.increment_quantity,
        first_tier.per_quantity,
        {{ to_micro('first_tier.price_amount') }} as price_micro,
        cast(coalesce(allowance_draw.drawn_quantity, 0) as bigint) as drawn_quantity,
        cast(
            case
                when allowance_draw.drawn_quantity > 0
                    then allowance_draw.wanted_quantity - allowance_draw.drawn_quantity
                else guided_usage.quantity
            end as bigint
        ) as left_quantity
    from guided_usage
    inner join usage_price
        on guided_usage.usage_price_id = usage_price.usage_price_id
    inner join price_tier as first_tier
        on usage_price.usage_price_id = first_tier.usage_price_id
        and first_tier.tier_number = 1
    left join allowance_draw
        on guided_usage.usage_id = allowance_draw.usage_id

),

slot_cost as (

    select
        uncovered.*,
        {{ round_up_to('left_quantity', 'increment_quantity') }} as billable_quantity,
        0 as before_numerator,
        {{ round_up_to('left_quantity', 'increment_quantity') }} * price_micro as after_numerator
    from uncovered
    where model = 'slots'

),

running as (

    select
        uncovered.*,
        cast(
            sum(left_quantity) over (
                partition by subscription_id, usage_price_id, cycle_id
                order by started_at, usage_id
                rows between unbounded preceding and current row
            ) as bigint
        ) as total_after
    from uncovered
    where model = 'graduated'

),

rounded_total as (

    select
        running.*,
        {{ round_up_to('total_after - left_quantity', 'increment_quantity') }} as before_quantity,
        {{ round_up_to('total_after', 'increment_quantity') }} as after_quantity
    from running

),

placed as (

    select
        rounded_total.*,
        coalesce(repeat_quantity, 9000000000000000000) as period_quantity,
        {{ integer_divide('before_quantity', 'coalesce(repeat_quantity, 9000000000000000000)') }}
            as before_periods,
        {{ integer_divide('after_quantity', 'coalesce(repeat_quantity, 9000000000000000000)') }}
            as after_periods
    from rounded_total

),

{%- set tier_part = "greatest(0, least({quantity}, coalesce(price_tier.to_quantity, {quantity})) - price_tier.from_quantity)" %}
{%- set whole_period = tier_part.format(quantity='placed.period_quantity') %}
{%- set before_rest = "(placed.before_quantity - placed.before_periods * placed.period_quantity)" %}
{%- set after_rest = "(placed.after_quantity - placed.after_periods * placed.period_quantity)" %}

graduated_cost as (

    select
        placed.usage_id,
        sum(
            (
                placed.before_periods * {{ whole_period }}
                + {{ tier_part.format(quantity=before_rest) }}
            ) * {{ to_micro('price_tier.price_amount') }}
        ) as before_numerator,
        sum(
            (
                placed.after_periods * {{ whole_period }}
                + {{ tier_part.format(quantity=after_rest) }}
            ) * {{ to_micro('price_tier.price_amount') }}
        ) as after_numerator
    from placed
    inner join price_tier
        on placed.usage_price_id = price_tier.usage_price_id
    group by placed.usage_id

),

priced as (

    select
        usage_id,
        cycle_id,
        usage_price_id,
        drawn_quantity,
        left_quantity,
        billable_quantity,
        rounding_mode,
        rounding_digits,
        per_quantity,
        before_numerator,
        after_numerator
    from slot_cost

    union all

    select
        placed.usage_id,
        placed.cycle_id,
        placed.usage_price_id,
        placed.drawn_quantity,
        placed.left_quantity,
        placed.after_quantity - placed.before_quantity as billable_quantity,
        placed.rounding_mode,
        placed.rounding_digits,
        placed.per_quantity,
        graduated_cost.before_numerator,
        graduated_cost.after_numerator
    from placed
    inner join graduated_cost
        on placed.usage_id = graduated_cost.usage_id

),

scaled as (

    select
        priced.*,
        cast(per_quantity as decimal(38, 0)) as denominator,
        cast({{ power_of_ten('6 - rounding_digits') }} as decimal(38, 0)) as rounding_micro
    from priced

),

rounded as (

    select
        scaled.*,
        (
            {{ divide_rounded('after_numerator', 'denominator * rounding_micro', 'rounding_mode') }}
            - {{ divide_rounded('before_numerator', 'denominator * rounding_micro', 'rounding_mode') }}
        ) * rounding_micro as amount_micro,
        {{ integer_divide('after_numerator * 1000', 'denominator') }}
        - {{ integer_divide('before_numerator * 1000', 'denominator') }} as exact_nano
    from scaled

),

final as (

    select
        usage_id,
        cycle_id,
        usage_price_id,
        cast(drawn_quantity as bigint) as drawn_quantity,
        cast(left_quantity as bigint) as left_quantity,
        cast(billable_quantity as bigint) as billable_quantity,
        {{ from_micro('amount_micro') }} as amount,
        {{ from_nano('amount_micro * 1000 - exact_nano') }} as rounding_residue_amount
    from rounded

)

select * from final
