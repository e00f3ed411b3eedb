{# What changes the balance of accounts besides the charges, by the cycle it counts to: payments by when
   they were paid, notes, late fees, bonus money and write-offs by their accounting day in civil time.
   The rule of docs/DECISIONLOG.md "What a bill's balance is made of". One row a payment or an entry of
   the ledger; `amount` of a payment is what was received, of an adjustment what is owed more. #}
{% macro account_movements() -%}
    select
        payment.account_id,
        billing_cycle.cycle_id,
        payment.payment_id,
        cast(null as bigint) as entry_id,
        payment.amount
    from {{ ref('ods__payment') }} as payment
    inner join {{ ref('ods__billing_cycle') }} as billing_cycle
        on payment.paid_at >= billing_cycle.starts_at
        and payment.paid_at < billing_cycle.ends_at

    union all

    select
        adjustment.account_id,
        billing_cycle.cycle_id,
        cast(null as {{ dbt.type_string() }}) as payment_id,
        adjustment.entry_id,
        adjustment.amount
    from {{ ref('ods__adjustment') }} as adjustment
    inner join {{ ref('ods__billing_cycle') }} as billing_cycle
        on adjustment.posted_date >= cast({{ civil_time('billing_cycle.starts_at') }} as date)
        and adjustment.posted_date < cast({{ civil_time('billing_cycle.ends_at') }} as date)
{%- endmacro %}
