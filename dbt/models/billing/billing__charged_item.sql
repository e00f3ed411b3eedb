-- Grain: one line's charges of one kind in an open cycle (subscription_id, cycle_id, bill_item_code).
-- The one place where a bill's money is rounded to the fen: half-up, per item, after summing.
-- Sums what `billing.charge` shows one by one, straight from where it is kept.
with

cycle_line as (

    select * from {{ ref('billing__cycle_line') }}
    where cycle_id in {{ open_cycles() }}

),

usage_charge as (

    select * from {{ ref('billing__usage_charge') }}

),

money_draw as (

    select * from {{ ref('billing__money_draw') }}

),

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

charge_class as (

    select * from {{ ref('ods__charge_class') }}

),

recurring_charge as (

    select * from {{ ref('billing__recurring_charge') }}
    where cycle_id in {{ open_cycles() }}

),

one_off_charge as (

    select * from {{ ref('billing__one_off_charge') }}
    where cycle_id in {{ open_cycles() }}

),

plan_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

-- The plan at the cycle's end, or the last before it.
plan_at_end as (

    select
        cycle_line.line_key,
        plan_holding.offering_id,
        row_number() over (
            partition by cycle_line.line_key order by plan_holding.held_from desc
        ) as recency
    from cycle_line
    inner join {{ ref('ods__billing_cycle') }} as billing_cycle
        on cycle_line.cycle_id = billing_cycle.cycle_id
    inner join plan_holding
        on cycle_line.subscription_id = plan_holding.subscription_id
        and plan_holding.held_from < billing_cycle.ends_at

),

priced_usage as (

    select
        line_key,
        usage_price_id,
        sum(quantity_micro) as quantity_micro,
        sum(amount) as amount
    from usage_charge
    group by line_key, usage_price_id

    union all

    select
        line_key,
        usage_price_id,
        0 as quantity_micro,
        -sum(drawn_amount) as amount
    from money_draw
    group by line_key, usage_price_id

),

part as (

    select
        priced_usage.line_key,
        usage_price.bill_item_code,
        charge_class.unit,
        priced_usage.quantity_micro,
        priced_usage.amount,
        cast(null as {{ dbt.type_string() }}) as offering_id
    from priced_usage
    inner join usage_price
        on priced_usage.usage_price_id = usage_price.usage_price_id
    inner join charge_class
        on usage_price.charge_class = charge_class.charge_class

    union all

    select
        {{ line_key('subscription_id', 'cycle_id') }} as line_key,
        'rent' as bill_item_code,
        'day' as unit,
        held_days * 1000000 as quantity_micro,
        amount,
        offering_id
    from recurring_charge

    union all

    select
        {{ line_key('subscription_id', 'cycle_id') }} as line_key,
        bill_item_code,
        'event' as unit,
        1000000 as quantity_micro,
        amount,
        offering_id
    from one_off_charge

),

summed as (

    select
        line_key,
        bill_item_code,
        case when min(unit) = max(unit) then sum(quantity_micro) end as quantity_micro,
        case when min(unit) = max(unit) then min(unit) end as unit,
        max(offering_id) as offering_id,
        cast(sum(amount) as decimal(18, 6)) as charge_amount
    from part
    group by line_key, bill_item_code

),

final as (

    select
        cycle_line.account_id,
        cycle_line.customer_id,
        cycle_line.subscription_id,
        cycle_line.cycle_id,
        cycle_line.province_code,
        coalesce(plan_at_end.offering_id, summed.offering_id) as offering_id,
        summed.bill_item_code,
        cast({{ micro_quantity('summed.quantity_micro') }} as bigint) as quantity,
        summed.unit,
        summed.charge_amount,
        {{ to_fen('summed.charge_amount') }} as amount_fen,
        'CNY' as currency_code
    from summed
    inner join cycle_line
        on summed.line_key = cycle_line.line_key
    left join plan_at_end
        on summed.line_key = plan_at_end.line_key
        and plan_at_end.recency = 1

)

select * from final
