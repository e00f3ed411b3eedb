-- Grain: one discount's part of one item of a line in an open cycle (subscription_id, cycle_id,
-- discount_id, bill_item_code).
-- Discounts go one after the other, each by what the former left. A discount is shared out over the
-- items it applies to in proportion to what they come to, the odd fen by largest remainder; what a
-- minimum adds is an item of its own. What is collected for others is not ours to discount, and counts
-- to no minimum.
{%- set passes = pass_numbers('billing__discount_order') %}
with

discount_order as (

    select * from {{ ref('billing__discount_order') }}

),

charged_item as (

    select * from {{ ref('billing__charged_item') }}

),

bill_item_kind as (

    select * from {{ ref('bill_item') }}

),

left_after_0 as (

    select
        charged_item.subscription_id,
        charged_item.cycle_id,
        charged_item.bill_item_code,
        charged_item.amount_fen
    from charged_item
    left join bill_item_kind
        on charged_item.bill_item_code = bill_item_kind.bill_item_code
    where coalesce(bill_item_kind.is_revenue, true) and exists (
        select 1 from discount_order
        where discount_order.subscription_id = charged_item.subscription_id
            and discount_order.cycle_id = charged_item.cycle_id
    )

),
{% for pass in passes %}
{# Beside the discount, not joined to it in one: an outer join with a condition besides equality is
   worked out by some engines as every line with every other. -#}
base_{{ pass }} as (

    select
        discount_order.subscription_id,
        discount_order.cycle_id,
        sum(item.amount_fen) as base_fen,
        sum(greatest(item.amount_fen, 0)) as weight_fen
    from discount_order
    inner join left_after_{{ pass - 1 }} as item
        on discount_order.subscription_id = item.subscription_id
        and discount_order.cycle_id = item.cycle_id
    where discount_order.pass_number = {{ pass }}
        and {{ is_listed('item.bill_item_code', 'discount_order.bill_item_codes') }}
    group by discount_order.subscription_id, discount_order.cycle_id

),

applied_{{ pass }} as (

    select
        discount_order.subscription_id,
        discount_order.cycle_id,
        discount_order.discount_id,
        discount_order.kind,
        discount_order.value_micro,
        discount_order.bill_item_codes,
        cast(coalesce(base.base_fen, 0) as bigint) as base_fen,
        cast(coalesce(base.weight_fen, 0) as bigint) as weight_fen
    from discount_order
    left join base_{{ pass }} as base
        on discount_order.subscription_id = base.subscription_id
        and discount_order.cycle_id = base.cycle_id
    where discount_order.pass_number = {{ pass }}

),

taken_{{ pass }} as (

    select
        applied_{{ pass }}.*,
        cast(
            case kind
                when 'percent' then {{ divide_rounded(
                    'cast(greatest(base_fen, 0) as decimal(38, 0)) * value_micro', '100000000'
                ) }}
                when 'amount' then least(
                    {{ divide_rounded('value_micro', '10000') }}, greatest(base_fen, 0)
                )
                when 'cap' then greatest(
                    base_fen - {{ divide_rounded('value_micro', '10000') }}, 0
                )
                else 0
            end as bigint
        ) as discount_fen,
        cast(
            case kind
                when 'minimum' then greatest(
                    {{ divide_rounded('value_micro', '10000') }} - base_fen, 0
                )
                else 0
            end as bigint
        ) as added_fen
    from applied_{{ pass }}

),

part_{{ pass }} as (

    select
        taken.subscription_id,
        taken.cycle_id,
        taken.discount_id,
        taken.kind,
        item.bill_item_code,
        taken.base_fen,
        cast(
            -({{ apportioned(
                'taken.discount_fen',
                numerator='cast(taken.discount_fen as decimal(38, 0)) * item.amount_fen',
                denominator='taken.weight_fen',
                among=['taken.subscription_id', 'taken.cycle_id'],
                ordered_by=byte_order('item.bill_item_code'),
            ) }}) as bigint
        ) as amount_fen
    from taken_{{ pass }} as taken
    inner join left_after_{{ pass - 1 }} as item
        on taken.subscription_id = item.subscription_id
        and taken.cycle_id = item.cycle_id
        and {{ is_listed('item.bill_item_code', 'taken.bill_item_codes') }}
    where taken.discount_fen > 0
        and item.amount_fen > 0

    union all

    select
        subscription_id,
        cycle_id,
        discount_id,
        kind,
        'minimum' as bill_item_code,
        base_fen,
        added_fen as amount_fen
    from taken_{{ pass }}
    where added_fen > 0

),

left_after_{{ pass }} as (

    select
        subscription_id,
        cycle_id,
        bill_item_code,
        cast(sum(amount_fen) as bigint) as amount_fen
    from (
        select subscription_id, cycle_id, bill_item_code, amount_fen
        from left_after_{{ pass - 1 }}

        union all

        select subscription_id, cycle_id, bill_item_code, amount_fen from part_{{ pass }}
    ) as both_parts
    group by subscription_id, cycle_id, bill_item_code

),
{% endfor %}
part as (
    {% for pass in passes %}
    select * from part_{{ pass }}

    union all
    {% endfor %}
    -- No row: what there is to unite where nobody has a discount.
    select
        subscription_id,
        cycle_id,
        cast(null as {{ dbt.type_string() }}) as discount_id,
        cast(null as {{ dbt.type_string() }}) as kind,
        bill_item_code,
        cast(0 as bigint) as base_fen,
        amount_fen
    from left_after_0
    where amount_fen is null

),

final as (

    select
        part.subscription_id,
        part.cycle_id,
        part.discount_id,
        part.bill_item_code,
        part.kind,
        discount_order.name_zh,
        discount_order.name_en,
        part.base_fen,
        part.amount_fen
    from part
    inner join discount_order
        on part.subscription_id = discount_order.subscription_id
        and part.cycle_id = discount_order.cycle_id
        and part.discount_id = discount_order.discount_id
    where part.amount_fen <> 0

)

select * from final
