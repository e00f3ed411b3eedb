-- Grain: what one account pays of one item of a line of another (subscription_id, cycle_id,
-- payment_responsibility_id, bill_item_code).
-- A share is of what the items come to after discounts, whatever others pay; of several, the former
-- goes first, and none pays more than is left. It is shared out over the items in proportion to what
-- is left of them, the odd fen by largest remainder.
{%- set passes = pass_numbers('billing__payment_order') %}
with

payment_order as (

    select * from {{ ref('billing__payment_order') }}

),

charged_item as (

    select * from {{ ref('billing__charged_item') }}

),

discount as (

    select * from {{ ref('billing__discount') }}

),

part_of_item as (

    select subscription_id, cycle_id, bill_item_code, amount_fen from charged_item

    union all

    select subscription_id, cycle_id, bill_item_code, amount_fen from discount

),

left_after_0 as (

    select
        subscription_id,
        cycle_id,
        bill_item_code,
        cast(sum(amount_fen) as bigint) as net_fen,
        cast(sum(amount_fen) as bigint) as left_fen
    from part_of_item
    where exists (
        select 1 from payment_order
        where payment_order.subscription_id = part_of_item.subscription_id
            and payment_order.cycle_id = part_of_item.cycle_id
    )
    group by subscription_id, cycle_id, bill_item_code

),
{% for pass in passes %}
asked_{{ pass }} as (

    select
        payment_order.subscription_id,
        payment_order.cycle_id,
        payment_order.payment_responsibility_id,
        payment_order.payer_account_id,
        payment_order.bill_item_codes,
        payment_order.share_micro,
        payment_order.cap_fen,
        cast(greatest(sum(item.net_fen), 0) as bigint) as base_fen,
        cast(sum(greatest(item.left_fen, 0)) as bigint) as weight_fen
    from payment_order
    inner join left_after_{{ pass - 1 }} as item
        on payment_order.subscription_id = item.subscription_id
        and payment_order.cycle_id = item.cycle_id
        and {{ is_listed('item.bill_item_code', 'payment_order.bill_item_codes') }}
    where payment_order.pass_number = {{ pass }}
    group by
        payment_order.subscription_id, payment_order.cycle_id,
        payment_order.payment_responsibility_id, payment_order.payer_account_id,
        payment_order.bill_item_codes, payment_order.share_micro, payment_order.cap_fen

),

paid_{{ pass }} as (

    select
        asked_{{ pass }}.*,
        cast(
            least(
                {{ divide_rounded(
                    'cast(base_fen as decimal(38, 0)) * share_micro', '100000000'
                ) }},
                weight_fen,
                coalesce(cap_fen, weight_fen)
            ) as bigint
        ) as paid_fen
    from asked_{{ pass }}

),

part_{{ pass }} as (

    select
        paid.subscription_id,
        paid.cycle_id,
        paid.payment_responsibility_id,
        paid.payer_account_id,
        item.bill_item_code,
        paid.base_fen,
        cast(
            {{ apportioned(
                'paid.paid_fen',
                numerator='cast(paid.paid_fen as decimal(38, 0)) * item.left_fen',
                denominator='paid.weight_fen',
                among=['paid.subscription_id', 'paid.cycle_id'],
                ordered_by=byte_order('item.bill_item_code'),
            ) }} as bigint
        ) as amount_fen
    from paid_{{ pass }} as paid
    inner join left_after_{{ pass - 1 }} as item
        on paid.subscription_id = item.subscription_id
        and paid.cycle_id = item.cycle_id
        and {{ is_listed('item.bill_item_code', 'paid.bill_item_codes') }}
    where paid.paid_fen > 0
        and item.left_fen > 0

),

left_after_{{ pass }} as (

    select
        item.subscription_id,
        item.cycle_id,
        item.bill_item_code,
        item.net_fen,
        item.left_fen - coalesce(part_{{ pass }}.amount_fen, 0) as left_fen
    from left_after_{{ pass - 1 }} as item
    left join part_{{ pass }}
        on item.subscription_id = part_{{ pass }}.subscription_id
        and item.cycle_id = part_{{ pass }}.cycle_id
        and item.bill_item_code = part_{{ pass }}.bill_item_code

),
{% endfor %}
part as (
    {% for pass in passes %}
    select * from part_{{ pass }}

    union all
    {% endfor %}
    -- No row: what there is to unite where nobody pays for another.
    select
        subscription_id,
        cycle_id,
        cast(null as {{ dbt.type_string() }}) as payment_responsibility_id,
        cast(null as {{ dbt.type_string() }}) as payer_account_id,
        bill_item_code,
        cast(0 as bigint) as base_fen,
        left_fen as amount_fen
    from left_after_0
    where left_fen is null

),

final as (

    select
        subscription_id,
        cycle_id,
        payment_responsibility_id,
        payer_account_id,
        bill_item_code,
        base_fen,
        amount_fen
    from part
    where amount_fen <> 0

)

select * from final
