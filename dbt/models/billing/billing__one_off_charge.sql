{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one occasion of a product instance (product_instance_id, occasion, cycle_id).
-- A line joins with its first plan, changes with each later one and leaves when its plan ends and
-- none follows; an add-on is joined and left by itself, and so is a bundle, unless another takes its
-- place at that moment, which is a change. Who leaves before the months he committed
-- himself to pays the penalty of the version he joined under: fixed, or a share of the fees, as they
-- are when he leaves, of the months that are left. A month that has begun counts as kept. Where the
-- commitment says so he pays it too when a plan of another offering follows; a new version of the
-- same one is no change.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

product_instance as (

    select * from {{ ref('ods__product_instance') }}

),

product_holding as (

    select * from {{ ref('billing__product_holding') }}

),

one_off_price as (

    select * from {{ ref('ods__one_off_price') }}

),

commitment as (

    select * from {{ ref('ods__commitment') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

instance as (

    select
        product_instance.product_instance_id,
        product_instance.role,
        product_instance.offering_id,
        greatest(product_instance.valid_from, subscription.valid_from) as joined_at,
        nullif(
            least(
                coalesce(product_instance.valid_to, {{ end_of_time() }}),
                coalesce(subscription.valid_to, {{ end_of_time() }})
            ),
            {{ end_of_time() }}
        ) as left_at,
        row_number() over (
            partition by product_instance.subscription_id, product_instance.role
            order by product_instance.valid_from, product_instance.product_instance_id
        ) as instance_number,
        lead(product_instance.valid_from) over (
            partition by product_instance.subscription_id, product_instance.role
            order by product_instance.valid_from, product_instance.product_instance_id
        ) as next_from,
        lead(product_instance.offering_id) over (
            partition by product_instance.subscription_id, product_instance.role
            order by product_instance.valid_from, product_instance.product_instance_id
        ) as next_offering_id,
        lag(product_instance.valid_to) over (
            partition by product_instance.subscription_id, product_instance.role
            order by product_instance.valid_from, product_instance.product_instance_id
        ) as former_to,
        subscription.valid_to as line_left_at
    from product_instance
    inner join subscription
        on product_instance.subscription_id = subscription.subscription_id

),

ended as (

    select
        instance.*,
        -- A plan that was to follow does not, when the line is gone.
        coalesce(
            (role = 'plan' or (role = 'bundle' and next_from = left_at))
            and next_from is not null
            and (line_left_at is null or next_from < line_left_at),
            false
        ) as is_followed
    from instance
    where left_at is not null

),

occasion as (

    select
        product_instance_id,
        case
            when role = 'plan' and instance_number > 1 then 'change'
            when role = 'bundle' and former_to = joined_at then 'change'
            else 'join'
        end as occasion,
        joined_at,
        joined_at as happened_at
    from instance

    union all

    -- No price is of being exchanged: it is the plan that follows which is charged for the change.
    select
        product_instance_id,
        case when is_followed then 'exchange' else 'leave' end as occasion,
        joined_at,
        left_at as happened_at
    from ended
    where not is_followed or next_offering_id <> offering_id

),

in_cycle as (

    select
        occasion.*,
        billing_cycle.cycle_id,
        product_holding.subscription_id,
        product_holding.account_id,
        product_holding.customer_id,
        product_holding.province_code,
        product_holding.offering_id,
        product_holding.plan_version_id,
        cast({{ civil_time('occasion.happened_at') }} as date) as charge_date,
        cast({{ civil_time('occasion.joined_at') }} as date) as joined_date,
        -- The last day that was held, of what ends.
        cast({{ civil_time("occasion.happened_at - interval '1 second'") }} as date) as last_date
    from occasion
    inner join billing_cycle
        on occasion.happened_at >= billing_cycle.starts_at
        and occasion.happened_at < billing_cycle.ends_at
    inner join product_holding
        on occasion.product_instance_id = product_holding.product_instance_id
        and (
            (
                occasion.occasion in ('join', 'change')
                and occasion.happened_at >= product_holding.held_from
                and occasion.happened_at < product_holding.held_to
            )
            or (
                occasion.occasion in ('leave', 'exchange')
                and occasion.happened_at > product_holding.held_from
                and occasion.happened_at <= product_holding.held_to
            )
        )

),

priced as (

    select
        in_cycle.*,
        one_off_price.bill_item_code,
        'one_off' as charge_type,
        in_cycle.plan_version_id || '/' || in_cycle.occasion as price_component,
        {{ to_micro('one_off_price.amount') }} as amount_micro
    from in_cycle
    inner join one_off_price
        on in_cycle.plan_version_id = one_off_price.plan_version_id
        and in_cycle.occasion = one_off_price.occasion

),

committed as (

    select
        in_cycle.*,
        commitment.months,
        commitment.penalty_rule,
        commitment.penalty_value,
        commitment.plan_version_id as committed_version_id,
        price_plan_version.monthly_fee_amount,
        (extract(year from in_cycle.last_date) - extract(year from in_cycle.joined_date)) * 12
        + extract(month from in_cycle.last_date) - extract(month from in_cycle.joined_date)
        + case
            when extract(day from in_cycle.last_date) >= extract(day from in_cycle.joined_date)
                then 1
            else 0
        end as begun_months
    from in_cycle
    inner join product_holding as at_joining
        on in_cycle.product_instance_id = at_joining.product_instance_id
        and in_cycle.joined_at >= at_joining.held_from
        and in_cycle.joined_at < at_joining.held_to
    inner join commitment
        on at_joining.plan_version_id = commitment.plan_version_id
    inner join price_plan_version
        on in_cycle.plan_version_id = price_plan_version.plan_version_id
    where in_cycle.occasion = 'leave'
        or (in_cycle.occasion = 'exchange' and commitment.penalty_on = 'leave_or_change')

),

penalised as (

    select
        committed.*,
        case penalty_rule
            when 'fixed' then {{ to_micro('penalty_value') }}
            -- Millionths of yuan times millionths of a per cent.
            else {{ divide_rounded(
                to_micro('monthly_fee_amount') ~ ' * ' ~ to_micro('penalty_value')
                ~ ' * cast(greatest(months - begun_months, 0) as integer)',
                '1000000000000'
            ) }} * 10000
        end as amount_micro
    from committed
    where begun_months < months

),

{%- set columns = [
    'product_instance_id', 'cycle_id', 'subscription_id', 'account_id', 'customer_id',
    'province_code', 'offering_id', 'plan_version_id', 'happened_at', 'charge_date',
] %}

charged as (

    select
        {{ columns | join(', ') }},
        occasion,
        charge_type,
        bill_item_code,
        price_component,
        cast(null as {{ dbt.type_string() }}) as ended_by,
        cast(null as integer) as begun_months,
        amount_micro
    from priced

    union all

    select
        {{ columns | join(', ') }},
        'penalty' as occasion,
        'penalty' as charge_type,
        'penalty' as bill_item_code,
        committed_version_id || '/penalty' as price_component,
        case occasion when 'exchange' then 'change' else occasion end as ended_by,
        begun_months,
        amount_micro
    from penalised

),

final as (

    select
        product_instance_id,
        occasion,
        cycle_id,
        charge_type,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        bill_item_code,
        price_component,
        happened_at,
        charge_date,
        cast(ended_by as {{ dbt.type_string() }}) as ended_by,
        cast(begun_months as integer) as begun_months,
        {{ from_micro('amount_micro') }} as amount
    from charged

)

select * from final
