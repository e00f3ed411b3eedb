-- Grain: one line in one open cycle (line_key), and digests of all that its charges follow from: its
-- usage; and the buckets it may draw from, the plans it holds with their prices and calendars.
-- Beside the digest of all its usage there is one of the usage until the moment until which the lines
-- of its account were rated: where that did not change, what came since comes after it. Where it did,
-- `billing.backdated_line` tells whether usage came late, and nothing else.
{%- set rated_line = if_built('rated_line') %}
with

cycle_line as (

    select * from {{ ref('billing__cycle_line') }}
    where cycle_id in {{ open_cycles() }}

),

-- Until when a line was rated: as far as any line of its account.
rated_until as (

    {%- if rated_line %}
    select cycle_line.line_key, rated_pool.rated_until
    from cycle_line
    left join (
        select cycle_id, account_id, max(used_until) as rated_until
        from {{ rated_line }}
        where cycle_id in {{ open_cycles() }}
        group by cycle_id, account_id
    ) as rated_pool
        on cycle_line.cycle_id = rated_pool.cycle_id
        and cycle_line.account_id = rated_pool.account_id
    {%- else %}
    select line_key, cast(null as timestamp) as rated_until
    from cycle_line
    {%- endif %}

),

usage as (

    {%- set is_rated = 'usage_guide.started_at <= rated_until.rated_until' %}
    select
        usage_guide.line_key,
        count(*) as usage_count,
        {{ usage_digest('usage_guide') }} as usage_digest,
        max(usage_guide.started_at) as used_until,
        min(usage_guide.quantity_micro) < 0 as is_taken_back,
        max(rated_until.rated_until) as rated_until,
        count(case when {{ is_rated }} then 1 end) as rated_count,
        min(case when not {{ is_rated }} then usage_guide.started_at end) as added_from,
        {{ usage_digest('usage_guide', is_rated) }} as rated_usage_digest
    from {{ ref('billing__usage_guide') }} as usage_guide
    inner join rated_until
        on usage_guide.line_key = rated_until.line_key
    group by usage_guide.line_key

),

bucket as (

    select
        line_key,
        {{ row_digest([
            'bucket_id', 'allowance_id', 'unit', 'quantity_basis', 'increment_micro', 'size_micro',
            'valid_from', 'valid_to', 'draw_rank',
        ]) }} as digest
    from {{ ref('billing__allowance_access') }}
    group by line_key

),

calendar as (

    select
        calendar_period.calendar_id,
        {{ row_digest([
            'calendar_period.band', 'calendar_period.day_type', 'calendar_period.from_second',
            'calendar_period.to_second', 'calendar_holiday.holiday_date',
        ]) }} as digest
    from {{ ref('ods__calendar_period') }} as calendar_period
    left join {{ ref('ods__calendar_holiday') }} as calendar_holiday
        on calendar_period.calendar_id = calendar_holiday.calendar_id
    group by calendar_period.calendar_id

),

price as (

    select
        class_price.plan_version_id,
        {{ row_digest([
            'class_price.charge_class', 'class_price.band', 'class_price.usage_price_id',
            'price_rule.is_of_cycle', 'price_rule.repeat_micro', 'price_rule.repeat_numerator',
            'price_rule.connection_fee_numerator', 'price_rule.minimum_numerator',
            'price_rule.maximum_numerator', 'price_rule.cost_denominator',
            'price_rule.rounding_mode', 'price_rule.rounding_micro', 'price_step.step_number',
            'price_step.above_micro', 'price_step.up_to_micro', 'price_step.start_micro',
            'price_step.cap_micro', 'price_step.increment_micro', 'price_step.base_numerator',
            'price_step.unit_numerator',
        ]) }} as digest
    from {{ ref('billing__class_price') }} as class_price
    inner join {{ ref('billing__price_rule') }} as price_rule
        on class_price.usage_price_id = price_rule.usage_price_id
    left join {{ ref('billing__price_step') }} as price_step
        on class_price.usage_price_id = price_step.usage_price_id
    group by class_price.plan_version_id

),

-- What a line pays of content does not follow from the plans it holds.
content as (

    select used.line_key, {{ row_digest(['used.plan_version_id', 'price.digest']) }} as digest
    from (
        select usage_guide.line_key, priced_class.plan_version_id
        from {{ ref('billing__usage_guide') }} as usage_guide
        inner join {{ ref('billing__priced_class') }} as priced_class
            on usage_guide.class_key = priced_class.class_key
        where priced_class.charge_class = 'vas_content'
        group by usage_guide.line_key, priced_class.plan_version_id
    ) as used
    inner join price
        on used.plan_version_id = price.plan_version_id
    group by used.line_key

),

cover as (

    select
        allowance.plan_version_id,
        {{ row_digest([
            'allowance_cover.allowance_id', 'allowance_cover.charge_class', 'allowance_cover.band',
        ]) }} as digest
    from {{ ref('ods__allowance') }} as allowance
    inner join {{ ref('billing__allowance_cover') }} as allowance_cover
        on allowance.allowance_id = allowance_cover.allowance_id
    group by allowance.plan_version_id

),

holding as (

    select
        product_holding.subscription_id,
        {{ row_digest([
            'product_holding.product_instance_id', 'product_holding.role',
            'product_holding.plan_version_id', 'product_holding.held_from',
            'product_holding.held_to', 'product_holding.time_zone', 'price.digest', 'cover.digest',
            'calendar.digest',
        ]) }} as digest
    from {{ ref('billing__product_holding') }} as product_holding
    left join price
        on product_holding.plan_version_id = price.plan_version_id
    left join cover
        on product_holding.plan_version_id = cover.plan_version_id
    left join calendar
        on product_holding.calendar_id = calendar.calendar_id
    group by product_holding.subscription_id

),

final as (

    select
        cycle_line.line_key,
        cycle_line.cycle_id,
        cycle_line.account_id,
        cast(
            {{ joined_text(['content.digest', 'bucket.digest', 'holding.digest'], '/') }}
            as {{ dbt.type_string() }}
        ) as digest,
        cast(coalesce(usage.usage_digest, '0/') as {{ dbt.type_string() }}) as usage_digest,
        cast(coalesce(usage.usage_count, 0) as bigint) as usage_count,
        cast(coalesce(usage.rated_count, 0) as bigint) as rated_count,
        usage.used_until,
        coalesce(usage.is_taken_back, false) as is_taken_back,
        usage.rated_until,
        usage.added_from,
        cast(coalesce(usage.rated_usage_digest, '0/') as {{ dbt.type_string() }})
            as rated_usage_digest
    from cycle_line
    left join usage
        on cycle_line.line_key = usage.line_key
    left join content
        on cycle_line.line_key = content.line_key
    left join bucket
        on cycle_line.line_key = bucket.line_key
    left join holding
        on cycle_line.subscription_id = holding.subscription_id

)

select * from final
