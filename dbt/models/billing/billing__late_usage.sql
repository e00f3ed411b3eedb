-- Grain: one usage (usage_id) from before the last close that was not rated in a closed cycle: it came
-- late, or waited for its owner or price until then. What becomes of it is its plan's policy.
-- Only of files and of numbers of which something changed.
{%- set usage_guide = if_built('usage_guide') %}
-- depends_on: {{ ref('ods__billing_cycle') }}, {{ ref('billing__billed_cycle') }}
-- depends_on: {{ ref('billing__guiding_change') }}
with

classified_usage as (

    {%- for condition in usage_to_guide() %}
    select * from {{ ref('billing__classified_usage') }}
    where started_at < {{ closed_until() }} and {{ condition }}
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

cycle_line as (

    select * from {{ ref('billing__cycle_line') }}

),

final as (

    select classified_usage.*
    from classified_usage
    {%- if usage_guide %}
    where not exists (
        select 1 from {{ usage_guide }} as usage_guide
        inner join cycle_line
            on usage_guide.line_key = cycle_line.line_key
        where usage_guide.usage_id = classified_usage.usage_id
            and cycle_line.cycle_id not in {{ open_cycles() }}
    )
    {%- endif %}

)

select * from final
