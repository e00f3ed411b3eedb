{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one product instance under one version of its plan in a cycle; of what is held through a
-- bundle, under one version of the bundle or without it (product_instance_id, plan_version_id,
-- cycle_id, part_number).
-- The monthly fee in proportion to the calendar days the version was held. The days of joining and
-- of leaving both count; a day on which the plan or its version changes counts for the later one,
-- so that no day of a line is charged twice. Under a version with a fee for suspension, days on which
-- the line was suspended from midnight to midnight cost the share of that fee instead. While held
-- through a bundle a component costs what the bundle's version says; the day on which the bundle ends
-- is the bundle's.
with

billing_cycle as (

    select
        cycle_id,
        starts_at,
        ends_at,
        cast({{ civil_time('starts_at') }} as date) as start_date,
        cast({{ civil_time('ends_at') }} as date) as end_date,
        cast({{ civil_time("ends_at - interval '1 second'") }} as date) as last_date
    from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

fee_holding as (

    select * from {{ ref('billing__fee_holding') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

suspension as (

    select * from {{ ref('ods__subscription_status') }}
    where status = 'suspended'

),

-- When the product itself began and ended, whatever its versions.
spanned as (

    select
        fee_holding.*,
        min(held_from) over (partition by product_instance_id) as product_from,
        max(held_to) over (partition by product_instance_id) as product_to
    from fee_holding

),

held as (

    select
        spanned.product_instance_id,
        spanned.role,
        spanned.subscription_id,
        spanned.account_id,
        spanned.customer_id,
        spanned.province_code,
        spanned.offering_id,
        spanned.plan_version_id,
        spanned.first_month_rule,
        spanned.bundle_version_id,
        spanned.fee_rule,
        spanned.fee_amount,
        billing_cycle.cycle_id,
        spanned.product_from >= billing_cycle.starts_at as is_first_month,
        spanned.product_to < billing_cycle.ends_at as is_last_month,
        case
            when spanned.product_from < billing_cycle.starts_at then false
            else extract(day from {{ civil_time('spanned.product_from', 'spanned.time_zone') }})
                >= 16
        end as is_after_mid,
        greatest(spanned.held_from, billing_cycle.starts_at) as held_from,
        -- Most are held all month, and telling the civil time takes long.
        case
            when spanned.held_from <= billing_cycle.starts_at then billing_cycle.start_date
            when spanned.is_after_bundle
                then cast({{ dbt.dateadd(
                    'day', 1, civil_time("spanned.held_from - interval '1 second'")
                ) }} as date)
            else cast({{ civil_time('spanned.held_from') }} as date)
        end as first_date,
        case
            when spanned.held_to >= billing_cycle.ends_at then billing_cycle.last_date
            else cast({{ civil_time("spanned.held_to - interval '1 second'") }} as date)
        end as last_date,
        billing_cycle.start_date as cycle_start_date,
        billing_cycle.end_date as cycle_end_date
    from spanned
    inner join billing_cycle
        on spanned.held_from < billing_cycle.ends_at
        and spanned.held_to > billing_cycle.starts_at

),

-- What follows on the same line: after a plan the next plan, after a bundle the next bundle, after an
-- add-on its next version.
followed as (

    select
        held.*,
        lead(first_date) over (
            partition by
                subscription_id, cycle_id,
                case when role = 'addon' then product_instance_id else role end
            order by held_from, plan_version_id
        ) as next_first_date
    from held
    -- Not what ends on the day on which its bundle ended.
    where first_date <= last_date

),

counted as (

    select
        followed.*,
        {{ dbt.datediff('first_date', 'last_date', 'day') }} + 1
        - case when next_first_date = last_date then 1 else 0 end as held_days,
        case when next_first_date = last_date then last_date
            else cast({{ dbt.dateadd('day', 1, 'last_date') }} as date)
        end as next_date,
        {{ dbt.datediff('cycle_start_date', 'cycle_end_date', 'day') }} as cycle_days,
        {{ dbt.datediff('cycle_start_date', 'first_date', 'day') }} as days_before,
        {{ dbt.datediff('last_date', 'cycle_end_date', 'day') }}
        - case when next_first_date = last_date then 0 else 1 end as days_after
    from followed

),

-- The first and the last of a product in the cycle, of what has a day at all.
numbered as (

    select
        counted.*,
        row_number() over (
            partition by product_instance_id, cycle_id order by held_from, plan_version_id
        ) as holding_number,
        row_number() over (
            partition by product_instance_id, cycle_id order by held_from desc, plan_version_id desc
        ) as number_from_end,
        row_number() over (
            partition by product_instance_id, plan_version_id, cycle_id order by held_from
        ) as part_number
    from counted
    where held_days > 0

),

-- Whole days of suspension: from the first midnight in it, or at its beginning, to its last.
suspended as (

    select
        billing_cycle.cycle_id,
        suspension.subscription_id,
        cast({{ dbt.dateadd(
            'day', 1,
            civil_time(
                "greatest(suspension.valid_from, billing_cycle.starts_at) - interval '1 microsecond'"
            )
        ) }} as date) as from_date,
        cast({{ civil_time(
            'least(coalesce(suspension.valid_to, billing_cycle.ends_at), billing_cycle.ends_at)'
        ) }} as date) as to_date
    from suspension
    inner join billing_cycle
        on suspension.valid_from < billing_cycle.ends_at
        and coalesce(suspension.valid_to, billing_cycle.ends_at) > billing_cycle.starts_at

),

suspended_days as (

    select
        numbered.product_instance_id,
        numbered.plan_version_id,
        numbered.cycle_id,
        numbered.part_number,
        sum({{ dbt.datediff(
            'greatest(numbered.first_date, suspended.from_date)',
            'least(numbered.next_date, suspended.to_date)', 'day'
        ) }}) as suspended_days
    from numbered
    inner join suspended
        on numbered.subscription_id = suspended.subscription_id
        and numbered.cycle_id = suspended.cycle_id
        and suspended.from_date < numbered.next_date
        and suspended.to_date > numbered.first_date
        and suspended.from_date < suspended.to_date
    group by
        numbered.product_instance_id, numbered.plan_version_id, numbered.cycle_id,
        numbered.part_number

),

ruled as (

    select
        numbered.*,
        case numbered.fee_rule
            when 'included' then 0
            when 'replaced' then numbered.fee_amount
            else price_plan_version.monthly_fee_amount
        end as monthly_fee_amount,
        -- Never dearer suspended than not.
        case numbered.fee_rule
            when 'included' then 0
            when 'replaced'
                then least(
                    numbered.fee_amount, coalesce(price_plan_version.suspension_fee_amount, 0)
                )
            else coalesce(price_plan_version.suspension_fee_amount, 0)
        end as suspension_fee_amount,
        case
            when price_plan_version.suspension_fee_amount is null then 0
            else coalesce(suspended_days.suspended_days, 0)
        end as suspended_days,
        -- A whole first month counts from the 1st and to the end, whenever one leaves.
        numbered.held_days
        + case
            when numbered.holding_number = 1 and numbered.is_first_month
                and numbered.first_month_rule in ('whole', 'half_after_mid')
                then numbered.days_before
            else 0
        end
        + case
            when numbered.number_from_end = 1 and numbered.is_last_month and (
                price_plan_version.last_month_rule = 'whole'
                or (
                    numbered.is_first_month
                    and numbered.first_month_rule in ('whole', 'half_after_mid')
                )
            ) then numbered.days_after
            else 0
        end as charged_days,
        case
            when numbered.is_first_month and numbered.first_month_rule = 'free' then 0
            when numbered.is_first_month and numbered.first_month_rule = 'half_after_mid'
                and numbered.is_after_mid then 1
            else 2
        end as half_fees
    from numbered
    inner join price_plan_version
        on numbered.plan_version_id = price_plan_version.plan_version_id
    left join suspended_days
        on numbered.product_instance_id = suspended_days.product_instance_id
        and numbered.plan_version_id = suspended_days.plan_version_id
        and numbered.cycle_id = suspended_days.cycle_id
        and numbered.part_number = suspended_days.part_number

),

priced as (

    select
        ruled.*,
        (charged_days - suspended_days) * half_fees as fee_parts,
        suspended_days * half_fees as suspended_parts,
        cycle_days * 2 as fee_whole,
        (
            {{ to_micro('monthly_fee_amount') }} * (charged_days - suspended_days)
            + {{ to_micro('suspension_fee_amount') }} * suspended_days
        ) * half_fees as fee_numerator
    from ruled

),

rounded as (

    select
        priced.*,
        {{ divide_rounded('fee_numerator', 'cast(fee_whole as decimal(38, 0)) * 10000') }}
            * 10000 as amount_micro
    from priced

),

final as (

    select
        product_instance_id,
        cycle_id,
        role,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        cast(part_number as integer) as part_number,
        bundle_version_id,
        fee_rule,
        held_from,
        first_date,
        last_date,
        cast(held_days as bigint) as held_days,
        cast(cycle_days as bigint) as cycle_days,
        cast(suspended_days as bigint) as suspended_days,
        cast(fee_parts as bigint) as fee_parts,
        cast(suspended_parts as bigint) as suspended_parts,
        cast(fee_whole as bigint) as fee_whole,
        cast(monthly_fee_amount as decimal(18, 6)) as monthly_fee_amount,
        cast(suspension_fee_amount as decimal(18, 6)) as suspension_fee_amount,
        {{ from_micro('amount_micro') }} as amount,
        {{ from_nano(
            'amount_micro * 1000 - ' ~ integer_divide('fee_numerator * 1000', 'fee_whole')
        ) }} as rounding_residue_amount
    from rounded

)

select * from final
