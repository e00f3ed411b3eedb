-- Grain: one line's charges of one kind in an open cycle (subscription_id, cycle_id, bill_item_code).
-- The one place where a bill's money is rounded to the fen: half-up, per item, after summing.
with

charge as (

    select * from {{ ref('billing__charge') }}
    where cycle_id in {{ open_cycles() }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

plan_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

-- The plan at the cycle's end; of a line without one in the cycle, what was charged last.
plan_at_end as (

    select
        plan_holding.subscription_id,
        billing_cycle.cycle_id,
        plan_holding.offering_id,
        row_number() over (
            partition by plan_holding.subscription_id, billing_cycle.cycle_id
            order by plan_holding.held_from desc
        ) as recency
    from plan_holding
    inner join billing_cycle
        on plan_holding.held_from < billing_cycle.ends_at
        and plan_holding.held_to > billing_cycle.starts_at

),

charged_last as (

    select
        subscription_id,
        cycle_id,
        offering_id,
        row_number() over (
            partition by subscription_id, cycle_id
            order by charged_at desc, charge_key desc
        ) as recency
    from charge
    where not exists (
        select 1 from plan_at_end
        where plan_at_end.subscription_id = charge.subscription_id
            and plan_at_end.cycle_id = charge.cycle_id
    )

),

summed as (

    select
        account_id,
        customer_id,
        subscription_id,
        cycle_id,
        province_code,
        bill_item_code,
        currency_code,
        case when min(unit) = max(unit) then sum(billable_quantity + drawn_quantity) end as quantity,
        case when min(unit) = max(unit) then min(unit) end as unit,
        cast(sum(amount) as decimal(18, 6)) as charge_amount
    from charge
    group by
        account_id, customer_id, subscription_id, cycle_id, province_code, bill_item_code,
        currency_code

),

final as (

    select
        summed.account_id,
        summed.customer_id,
        summed.subscription_id,
        summed.cycle_id,
        summed.province_code,
        coalesce(plan_at_end.offering_id, charged_last.offering_id) as offering_id,
        summed.bill_item_code,
        cast(summed.quantity as bigint) as quantity,
        summed.unit,
        summed.charge_amount,
        {{ to_fen('summed.charge_amount') }} as amount_fen,
        summed.currency_code
    from summed
    left join plan_at_end
        on summed.subscription_id = plan_at_end.subscription_id
        and summed.cycle_id = plan_at_end.cycle_id
        and plan_at_end.recency = 1
    left join charged_last
        on summed.subscription_id = charged_last.subscription_id
        and summed.cycle_id = charged_last.cycle_id
        and charged_last.recency = 1

)

select * from final
