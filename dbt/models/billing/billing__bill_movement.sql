{{ config(
    materialized='replaced_rows', replaced='rows_of_open_cycles', looked_up_by=['bill_id']
) }}

-- Grain: one payment or adjustment that a bill's balance counts (bill_movement_key).
-- What becomes known of a closed cycle later stands in the opening balance of a later bill, not here.
with

account_movement as (

    {{ account_movements() }}

),

account as (

    select * from {{ ref('ods__account') }}

),

final as (

    select
        {{ hash_key([
            'account_movement.cycle_id', 'account_movement.payment_id',
            'account_movement.entry_id',
        ]) }} as bill_movement_key,
        account_movement.cycle_id || '-' || account_movement.account_id as bill_id,
        account_movement.account_id,
        account_movement.cycle_id,
        account_movement.payment_id,
        account_movement.entry_id,
        cast(account_movement.amount as decimal(18, 2)) as amount
    from account_movement
    inner join account
        on account_movement.account_id = account.account_id
    where account_movement.cycle_id in {{ open_cycles() }}

)

select * from final
