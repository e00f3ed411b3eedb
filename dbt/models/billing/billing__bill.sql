{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one bill (account_id, cycle_id).
-- Opening balance, the cycle's items less discounts and what others pay, notes, late fees and bonus
-- money, the cycle's payments and what is then owed. The tax is within the charges. Where nothing
-- moved the bill tells the balance alone; of an account without a balance there is none then.
{%- set amounts = ['charge', 'item', 'discount', 'shared', 'tax'] %}
with

bill_item as (

    select * from {{ ref('billing__bill_item') }}

),

account_movement as (

    {{ account_movements() }}

),

account as (

    select * from {{ ref('ods__account') }}

),

open_cycle as (

    select cycle_id
    from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

movement as (

    select
        account_id,
        cycle_id,
        sum(amount) as charge_amount,
        sum(case when item_kind in ('charge', 'minimum') then amount else 0 end) as item_amount,
        -sum(case when item_kind = 'discount' then amount else 0 end) as discount_amount,
        sum(case when item_kind = 'share' then amount else 0 end) as shared_amount,
        sum(tax_amount) as tax_amount,
        cast(0 as decimal(18, 2)) as adjustment_amount,
        cast(0 as decimal(18, 2)) as payment_amount
    from bill_item
    group by account_id, cycle_id

    union all

    select
        account_id,
        cycle_id,
        {%- for name in amounts %}
        cast(0 as decimal(18, 2)) as {{ name }}_amount,
        {%- endfor %}
        sum(case when entry_id is not null then amount else 0 end) as adjustment_amount,
        sum(case when payment_id is not null then amount else 0 end) as payment_amount
    from account_movement
    group by account_id, cycle_id

),

first_movement as (

    select account_id, min(cycle_id) as cycle_id
    from movement
    group by account_id

),

-- A balance is carried through every open cycle after the first movement.
carried as (

    select
        first_movement.account_id,
        open_cycle.cycle_id,
        {%- for name in amounts %}
        cast(0 as decimal(18, 2)) as {{ name }}_amount,
        {%- endfor %}
        cast(0 as decimal(18, 2)) as adjustment_amount,
        cast(0 as decimal(18, 2)) as payment_amount,
        0 as movements
    from first_movement
    inner join open_cycle
        on first_movement.cycle_id < open_cycle.cycle_id

),

moved_or_carried as (

    select
        movement.*,
        1 as movements
    from movement

    union all

    select * from carried

),

moved as (

    select
        account_id,
        cycle_id,
        {%- for name in amounts %}
        cast(sum({{ name }}_amount) as decimal(18, 2)) as {{ name }}_amount,
        {%- endfor %}
        cast(sum(adjustment_amount) as decimal(18, 2)) as adjustment_amount,
        cast(sum(payment_amount) as decimal(18, 2)) as payment_amount,
        sum(movements) as movements
    from moved_or_carried
    group by account_id, cycle_id

),

balanced as (

    select
        moved.*,
        cast(
            sum(charge_amount + adjustment_amount - payment_amount) over (
                partition by account_id
                order by cycle_id
                rows between unbounded preceding and current row
            ) as decimal(18, 2)
        ) as closing_amount
    from moved

),

item_digest as (

    select
        account_id,
        cycle_id,
        sum({{ number_of(joined_text([
            'subscription_id', 'bill_item_code', 'item_kind', 'discount_id', 'other_account_id',
            'amount', 'tax_amount',
        ], ':')) }}) as items
    from bill_item
    where cycle_id in {{ open_cycles() }}
    group by account_id, cycle_id

),

final as (

    select
        balanced.cycle_id || '-' || balanced.account_id as bill_id,
        balanced.account_id,
        account.customer_id,
        balanced.cycle_id,
        account.province_code,
        cast(
            balanced.closing_amount - balanced.charge_amount - balanced.adjustment_amount
            + balanced.payment_amount
            as decimal(18, 2)
        ) as opening_amount,
        balanced.item_amount,
        balanced.discount_amount,
        balanced.shared_amount,
        balanced.charge_amount,
        balanced.tax_amount,
        balanced.adjustment_amount,
        balanced.payment_amount,
        balanced.closing_amount,
        'CNY' as currency_code,
        {{ hash_key([
            'balanced.account_id', 'balanced.cycle_id', 'balanced.closing_amount',
            'balanced.charge_amount', 'balanced.adjustment_amount', 'balanced.payment_amount',
            'item_digest.items',
        ]) }} as content_hash
    from balanced
    inner join account
        on balanced.account_id = account.account_id
    left join item_digest
        on balanced.account_id = item_digest.account_id
        and balanced.cycle_id = item_digest.cycle_id
    where balanced.cycle_id in {{ open_cycles() }}
        and (balanced.movements > 0 or balanced.closing_amount <> 0)

)

select * from final
