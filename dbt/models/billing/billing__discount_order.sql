-- Grain: one discount, cap or minimum of a line in an open cycle (subscription_id, cycle_id,
-- discount_id).
-- Those of the plan, the bundle and the add-ons held at the end of the cycle, or when the line ended, in the
-- order of their sequence; of one sequence the plan's before those of add-ons. The minimum
-- consumption of a version comes last, for the share of the month that its own fee is charged for.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

product_holding as (

    select * from {{ ref('billing__product_holding') }}

),

discount as (

    select * from {{ ref('ods__discount') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

-- The share of the month for which a product's own fee is charged, not one of a bundle.
recurring_charge as (

    select
        product_instance_id,
        plan_version_id,
        cycle_id,
        sum(case when fee_rule in ('included', 'replaced') then 0 else fee_parts end) as fee_parts,
        min(fee_whole) as fee_whole
    from {{ ref('billing__recurring_charge') }}
    where cycle_id in {{ open_cycles() }}
    group by product_instance_id, plan_version_id, cycle_id

),

-- Only lines that ever held something with a discount or a minimum need be looked at.
discounted_version as (

    select plan_version_id from discount

    union

    select plan_version_id from price_plan_version where minimum_consumption_amount is not null

),

held as (

    select
        product_holding.*,
        billing_cycle.cycle_id,
        least(product_holding.held_to, billing_cycle.ends_at) as held_until,
        max(
            case
                when product_holding.role = 'plan'
                    then least(product_holding.held_to, billing_cycle.ends_at)
            end
        ) over (
            partition by product_holding.subscription_id, billing_cycle.cycle_id
        ) as line_until
    from product_holding
    inner join billing_cycle
        on product_holding.held_from < billing_cycle.ends_at
        and product_holding.held_to > billing_cycle.starts_at

),

held_at_end as (

    select
        held.subscription_id,
        held.cycle_id,
        held.plan_version_id,
        max(held.role) as last_role,
        -- A version held twice counts once.
        max(held.product_instance_id) as product_instance_id
    from held
    inner join discounted_version
        on held.plan_version_id = discounted_version.plan_version_id
    where held.held_until >= held.line_until
    group by held.subscription_id, held.cycle_id, held.plan_version_id

),

applied as (

    select
        held_at_end.subscription_id,
        held_at_end.cycle_id,
        discount.discount_id,
        0 as is_last,
        discount.sequence,
        case when held_at_end.last_role = 'plan' then 0 else 1 end as role_order,
        discount.kind,
        discount.name_zh,
        discount.name_en,
        discount.bill_item_codes,
        cast({{ to_micro('discount.value') }} as bigint) as value_micro
    from held_at_end
    inner join discount
        on held_at_end.plan_version_id = discount.plan_version_id

    union all

    select
        held_at_end.subscription_id,
        held_at_end.cycle_id,
        held_at_end.plan_version_id || '/minimum' as discount_id,
        1 as is_last,
        1 as sequence,
        case when held_at_end.last_role = 'plan' then 0 else 1 end as role_order,
        'minimum' as kind,
        '低消补足' as name_zh,
        'Minimum consumption' as name_en,
        cast(null as {{ dbt.type_string() }}) as bill_item_codes,
        cast(
            {{ divide_rounded(
                to_micro('price_plan_version.minimum_consumption_amount')
                ~ ' * recurring_charge.fee_parts',
                'recurring_charge.fee_whole * 10000'
            ) }} * 10000 as bigint
        ) as value_micro
    from held_at_end
    inner join price_plan_version
        on held_at_end.plan_version_id = price_plan_version.plan_version_id
        and price_plan_version.minimum_consumption_amount is not null
    inner join recurring_charge
        on held_at_end.product_instance_id = recurring_charge.product_instance_id
        and held_at_end.plan_version_id = recurring_charge.plan_version_id
        and held_at_end.cycle_id = recurring_charge.cycle_id

),

final as (

    select
        subscription_id,
        cycle_id,
        discount_id,
        cast(
            row_number() over (
                partition by subscription_id, cycle_id
                order by is_last, sequence, role_order, {{ byte_order('discount_id') }}
            ) as integer
        ) as pass_number,
        kind,
        name_zh,
        name_en,
        bill_item_codes,
        value_micro
    from applied

)

select * from final
