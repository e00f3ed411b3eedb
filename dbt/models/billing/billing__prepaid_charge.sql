{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: what an account's prepaid lines are charged of one kind in a cycle (account_id, cycle_id,
-- bill_item_code).
-- The parts of the bill in whole fen: what is deducted from the balance is what the bill will say. What
-- others pay for a line is not deducted; what an account pays for lines of others is on its bill.
with

bill_item as (

    select * from {{ ref('billing__bill_item') }}
    where cycle_id in {{ open_cycles() }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

final as (

    select
        bill_item.account_id,
        bill_item.cycle_id,
        bill_item.bill_item_code,
        cast(sum(bill_item.amount) as decimal(18, 2)) as amount
    from bill_item
    inner join subscription
        on bill_item.subscription_id = subscription.subscription_id
        and bill_item.account_id = subscription.account_id
    where subscription.payment_type = 'prepaid'
    group by bill_item.account_id, bill_item.cycle_id, bill_item.bill_item_code

)

select * from final
