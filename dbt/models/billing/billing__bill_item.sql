{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one bill item (account_id, subscription_id, cycle_id, bill_item_code).
-- The one place where a bill's money is rounded to the fen: half-up, per item.
with

charge as (

    select * from {{ ref('billing__charge') }}
    where cycle_id in {{ open_cycles() }}

),

plan_at_end as (

    select
        subscription_id,
        cycle_id,
        offering_id,
        row_number() over (
            partition by subscription_id, cycle_id
            order by charged_at desc, charge_key desc
        ) as recency
    from charge

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

rounded as (

    select
        summed.*,
        plan_at_end.offering_id,
        {{ divide_rounded(to_micro('summed.charge_amount'), '10000') }} * 10000 as amount_micro
    from summed
    inner join plan_at_end
        on summed.subscription_id = plan_at_end.subscription_id
        and summed.cycle_id = plan_at_end.cycle_id
        and plan_at_end.recency = 1

),

final as (

    select
        {{ hash_key(['account_id', 'subscription_id', 'cycle_id', 'bill_item_code']) }}
            as bill_item_key,
        cycle_id || '-' || account_id as bill_id,
        account_id,
        customer_id,
        subscription_id,
        cycle_id,
        province_code,
        offering_id,
        bill_item_code,
        cast(quantity as bigint) as quantity,
        unit,
        charge_amount,
        cast({{ from_micro('amount_micro') }} as decimal(18, 2)) as amount,
        currency_code
    from rounded

)

select * from final
