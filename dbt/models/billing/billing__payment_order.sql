-- Grain: one account that pays for a line of another account in an open cycle (subscription_id,
-- cycle_id, payment_responsibility_id).
-- Who is responsible at the end of the cycle pays for the cycle; the longest responsible first.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

payment_responsibility as (

    select * from {{ ref('ods__payment_responsibility') }}

),

final as (

    select
        payment_responsibility.subscription_id,
        billing_cycle.cycle_id,
        payment_responsibility.payment_responsibility_id,
        cast(
            row_number() over (
                partition by payment_responsibility.subscription_id, billing_cycle.cycle_id
                order by
                    payment_responsibility.valid_from,
                    {{ byte_order('payment_responsibility.payment_responsibility_id') }}
            ) as integer
        ) as pass_number,
        payment_responsibility.account_id as payer_account_id,
        payment_responsibility.bill_item_codes,
        cast({{ to_micro('payment_responsibility.share_percent') }} as bigint) as share_micro,
        {{ to_fen('payment_responsibility.monthly_cap_amount') }} as cap_fen
    from payment_responsibility
    inner join billing_cycle
        on payment_responsibility.valid_from < billing_cycle.ends_at
        and (
            payment_responsibility.valid_to >= billing_cycle.ends_at
            or payment_responsibility.valid_to is null
        )
    inner join subscription
        on payment_responsibility.subscription_id = subscription.subscription_id
        and payment_responsibility.account_id <> subscription.account_id

)

select * from final
