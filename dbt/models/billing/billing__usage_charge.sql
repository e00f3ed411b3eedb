{{ config(
    materialized='replaced_rows', replaced='rows_rated_again', is_sliced=true
) }}

-- Grain: one usage under one price component (usage_id, usage_price_id).
-- Steps 3, 5 and 6 of rating. What no allowance covered costs what the steps of its price say:
-- `slots` for the part of a record, the other models for the running total of the cycle, of which a
-- record costs what it adds. Costs are whole numbers over the version's denominator until a record
-- is rounded, once; of a record under several prices the components add up to the rounded total.
{%- set columns = [
    'usage_id', 'segment_number', 'segment_count', 'line_key', 'plan_version_id', 'usage_price_id',
    'account_bin', 'started_at', 'quantity_micro', 'left_micro',
] %}
with

last_draw as (

    {{ usage_to_rate(ref('billing__allowance_draw')) }}
        and usage.is_last

),

price_rule as (

    select * from {{ ref('billing__price_rule') }}

),

price_step as (

    select * from {{ ref('billing__price_step') }}

),

kept_total as (

    select * from {{ ref('billing__kept_total') }}

),

-- Nearly every record has one part, and is done without a look at others. The few that have several
-- are worked out beside them, among all that counts to the totals of their lines.
{%- for records in ['whole', 'split'] %}

usage_segment_{{ records }} as (

    {{ usage_to_rate(ref('billing__usage_segment')) }}
    {%- if records == 'split' %}
        and usage.line_key in (
            select line_key from {{ ref('billing__usage_segment') }} where segment_count > 1
        )
    {%- endif %}

),

uncovered_{{ records }} as (

    select
        usage_segment.usage_id,
        usage_segment.segment_number,
        usage_segment.segment_count,
        usage_segment.line_key,
        usage_segment.account_bin,
        usage_segment.plan_version_id,
        usage_segment.usage_price_id,
        usage_segment.started_at,
        usage_segment.quantity_micro,
        price_rule.is_of_cycle,
        price_rule.repeat_micro,
        price_rule.repeat_numerator,
        coalesce(last_draw.left_micro, usage_segment.quantity_micro) as left_micro
    from usage_segment_{{ records }} as usage_segment
    inner join price_rule
        on usage_segment.usage_price_id = price_rule.usage_price_id
    left join last_draw
        on usage_segment.usage_id = last_draw.usage_id
        and usage_segment.segment_number = last_draw.segment_number

),

-- Without an allowance or a running total most usages are priced here and now.
slotted_{{ records }} as (

    select
        uncovered.*,
        sign(uncovered.left_micro) * {{ step_cost('abs(uncovered.left_micro)', 'price_step') }}
            as cost_numerator
    from uncovered_{{ records }} as uncovered
    left join price_step
        on uncovered.usage_price_id = price_step.usage_price_id
        and abs(uncovered.left_micro) > price_step.above_micro
        and abs(uncovered.left_micro) <= price_step.up_to_micro
    where not uncovered.is_of_cycle

),

-- The totals of the cycle before a part (none before the first) and after it.
preceded_{{ records }} as (

    select
        uncovered.*,
        kept_total.left_micro as kept_micro,
        sum(uncovered.left_micro) over (
            partition by uncovered.line_key, uncovered.usage_price_id
            order by uncovered.started_at, uncovered.usage_id, uncovered.segment_number
            rows between unbounded preceding and 1 preceding
        ) as preceding_micro
    from uncovered_{{ records }} as uncovered
    left join kept_total
        on uncovered.line_key = kept_total.line_key
        and uncovered.usage_price_id = kept_total.usage_price_id
    where uncovered.is_of_cycle

),

running_{{ records }} as (

    select
        preceded.*,
        cast(coalesce(preceding_micro + coalesce(kept_micro, 0), kept_micro) as bigint)
            as before_micro
    from preceded_{{ records }} as preceded

),

bounded_{{ records }} as (

    select running.*, coalesce(before_micro, 0) + left_micro as after_micro
    from running_{{ records }} as running

),

-- Totals as whole repetitions of the tariff's pattern and a rest.
repeated_{{ records }} as (

    select
        bounded.*,
        {%- for bound in ['before', 'after'] %}
        coalesce({{ bigint_divide('abs(' ~ bound ~ '_micro)', 'repeat_micro') }}, 0)
            as {{ bound }}_periods,
        abs({{ bound }}_micro)
        - coalesce(
            {{ bigint_divide('abs(' ~ bound ~ '_micro)', 'repeat_micro') }} * repeat_micro, 0
        ) as {{ bound }}_rest{% if not loop.last %},{% endif %}
        {%- endfor %}
    from bounded_{{ records }} as bounded

),

accumulated_{{ records }} as (

    select
        repeated.*,
        {%- for bound in ['after', 'before'] %}
        {% if bound == 'before' %}- {% endif -%}
        coalesce(
            case when repeated.{{ bound }}_micro < 0 then -1 else 1 end * (
                repeated.{{ bound }}_periods * coalesce(repeated.repeat_numerator, 0)
                + {{ step_cost('repeated.' ~ bound ~ '_rest', bound ~ '_step') }}
            ),
            0
        )
        {%- endfor %} as cost_numerator
    from repeated_{{ records }} as repeated
    {%- for bound in ['before', 'after'] %}
    left join price_step as {{ bound }}_step
        on repeated.usage_price_id = {{ bound }}_step.usage_price_id
        and repeated.{{ bound }}_rest > {{ bound }}_step.above_micro
        and repeated.{{ bound }}_rest
        <= {{ bound }}_step.up_to_micro
    {%- endfor %}

),

costed_{{ records }} as (

    select {{ columns | join(', ') }}, cost_numerator
    from slotted_{{ records }} as slotted
    where segment_count {{ '= 1' if records == 'whole' else '> 1' }}

    union all

    select {{ columns | join(', ') }}, cost_numerator
    from accumulated_{{ records }} as accumulated
    where segment_count {{ '= 1' if records == 'whole' else '> 1' }}

),

component_{{ records }} as (

    {%- if records == 'whole' %}
    select
        usage_id,
        line_key,
        account_bin,
        started_at,
        plan_version_id,
        usage_price_id,
        1 as component_number,
        1 as component_count,
        quantity_micro,
        left_micro,
        left_micro <> 0 as is_record_to_pay,
        case when quantity_micro < 0 then -1 else 1 end as record_sign,
        cost_numerator,
        usage_price_id as first_price_id
    from costed_{{ records }} as costed
    {%- else %}
    select
        usage_id,
        line_key,
        account_bin,
        started_at,
        plan_version_id,
        usage_price_id,
        row_number() over (partition by usage_id order by min(segment_number)) as component_number,
        count(*) over (partition by usage_id) as component_count,
        sum(quantity_micro) as quantity_micro,
        sum(left_micro) as left_micro,
        max(sum(abs(left_micro))) over (partition by usage_id) <> 0 as is_record_to_pay,
        max(case when quantity_micro < 0 then -1 else 1 end) as record_sign,
        sum(cost_numerator) as cost_numerator,
        first_value(usage_price_id) over (
            partition by usage_id order by min(segment_number)
        ) as first_price_id
    from costed_{{ records }} as costed
    group by usage_id, line_key, account_bin, started_at, plan_version_id, usage_price_id
    {%- endif %}

),

-- The price's limits for its part of a record, and the connection fee with the first part.
limited_{{ records }} as (

    select
        component.*,
        price_rule.cost_denominator,
        price_rule.rounding_mode,
        price_rule.rounding_micro,
        -- `least` and `greatest` pass over what is null: a limit that there is not.
        case
            when price_rule.minimum_numerator is null and price_rule.maximum_numerator is null
                then component.cost_numerator
            else component.record_sign * least(
                greatest(
                    component.record_sign * component.cost_numerator,
                    case when component.left_micro <> 0 then price_rule.minimum_numerator end
                ),
                price_rule.maximum_numerator
            )
        end
        + case
            when component.component_number = 1 and component.is_record_to_pay
                then component.record_sign * price_rule.connection_fee_numerator
            else 0
        end as numerator
    from component_{{ records }} as component
    inner join price_rule
        on component.usage_price_id = price_rule.usage_price_id

),
{%- endfor %}

alone as (
    {%- for records in ['whole', 'split'] %}

    select
        usage_id, line_key, account_bin, started_at, usage_price_id, component_number, quantity_micro,
        left_micro, cost_denominator, numerator,
        {{ round_signed('numerator', 'cost_denominator * rounding_micro', 'rounding_mode') }}
            * rounding_micro as amount_micro
    from limited_{{ records }}
    where component_count = 1
    {%- if not loop.last %}

    union all
    {%- endif %}
    {%- endfor %}

),

-- Of a record under several prices the total is rounded, by the first price's rule, and its
-- smallest units go to the components with the largest remainders. What is taken back is worked out
-- with its sign turned, so that it mirrors what was charged. Prices of one version share a
-- denominator; where the plan changed within the record each plan's part is rounded on its own.
beside as (

    select
        limited.usage_id,
        limited.line_key,
        limited.account_bin,
        limited.started_at,
        limited.plan_version_id,
        limited.usage_price_id,
        limited.component_number,
        limited.quantity_micro,
        limited.left_micro,
        limited.cost_denominator,
        limited.record_sign,
        limited.numerator,
        limited.record_sign * limited.numerator as mirrored_numerator,
        first_rule.rounding_mode,
        first_rule.rounding_micro,
        sum(limited.record_sign * limited.numerator) over (
            partition by limited.usage_id, limited.plan_version_id
        ) as total_numerator,
        limited.cost_denominator * first_rule.rounding_micro as unit_numerator
    from limited_split as limited
    inner join price_rule as first_rule
        on limited.first_price_id = first_rule.usage_price_id
    where limited.component_count > 1

),

apportioned as (

    select
        beside.*,
        {{ apportioned(
            round_signed('total_numerator', 'unit_numerator', 'rounding_mode'),
            numerator='mirrored_numerator', denominator='unit_numerator',
            among=['usage_id', 'plan_version_id'], ordered_by='component_number',
        ) }} as amount_units
    from beside

),

charged as (

    select * from alone

    union all

    select
        usage_id, line_key, account_bin, started_at, usage_price_id, component_number, quantity_micro,
        left_micro, cost_denominator, numerator,
        record_sign * amount_units * rounding_micro as amount_micro
    from apportioned

),

final as (

    select
        usage_id,
        line_key,
        account_bin,
        started_at,
        usage_price_id,
        cast(component_number as integer) as component_number,
        cast(quantity_micro as bigint) as quantity_micro,
        cast(left_micro as bigint) as left_micro,
        {{ from_micro('amount_micro') }} as amount,
        case
            when numerator = 0 and amount_micro = 0 then cast(0 as decimal(18, 9))
            else {{ from_nano(
                'amount_micro * 1000 - ' ~ integer_divide('numerator * 1000', 'cost_denominator')
            ) }}
        end as rounding_residue_amount
    from charged

)

select * from final
