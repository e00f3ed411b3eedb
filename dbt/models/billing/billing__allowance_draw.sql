{{ config(
    materialized='replaced_rows', replaced='rows_rated_again', is_sliced=true
) }}

-- Grain: one draw of a part of a usage from a bucket (usage_id, segment_number, bucket_id).
-- Step 4 of rating: buckets are taken one rank at a time. Within a bucket the parts of usage still
-- uncovered draw in the order in which they happened; a running sum, which begins with what usage that
-- is kept had drawn, tells each what is left for it, however many lines draw. What is not covered
-- passes on to the next rank. Taking usage back (a negative quantity) gives back what it had drawn.
{%- set ranks = draw_ranks(is_money=false) %}
with

usage_segment as (

    {{ usage_to_rate(ref('billing__usage_segment')) }}
        and usage.quantity_micro <> 0

),

allowance_access as (

    select * from {{ ref('billing__allowance_access') }} where unit <> 'money'

),

allowance_cover as (

    select * from {{ ref('billing__allowance_cover') }}

),

kept_draw as (

    select * from {{ ref('billing__kept_draw') }}

),

{%- for rank in ranks %}

{# The cover is joined with the access first: there are few of them, and many usages. -#}
reach_{{ rank }} as (

    select
        allowance_access.*,
        allowance_cover.charge_class,
        allowance_cover.band,
        coalesce(kept_draw.drawn_micro, 0) as before_micro
    from allowance_access
    inner join allowance_cover
        on allowance_access.allowance_id = allowance_cover.allowance_id
    left join kept_draw
        on allowance_access.bucket_id = kept_draw.bucket_id
    where allowance_access.draw_rank = {{ rank }}

),

eligible_{{ rank }} as (

    select
        usage_segment.usage_id,
        usage_segment.segment_number,
        usage_segment.line_key,
        usage_segment.account_bin,
        usage_segment.started_at,
        reach_{{ rank }}.bucket_id,
        reach_{{ rank }}.size_micro,
        reach_{{ rank }}.before_micro,
        {%- set remains = [] %}
        {%- for former in ranks[:rank - 1] | reverse %}
        {%- do remains.append('draw_' ~ former ~ '.left_micro') %}
        {%- endfor %}
        {%- do remains.append('usage_segment.quantity_micro') %}
        {%- set remains = 'coalesce(' ~ remains | join(', ') ~ ')' if rank > 1 else remains[0] %}
        case reach_{{ rank }}.quantity_basis
            when 'rounded' then
                sign({{ remains }}) * reach_{{ rank }}.increment_micro * {{ bigint_divide(
                    'abs(' ~ remains ~ ') + reach_' ~ rank ~ '.increment_micro - 1',
                    'reach_' ~ rank ~ '.increment_micro'
                ) }}
            else {{ remains }}
        end as wanted_micro,
        {{ remains }} as remains_micro
    from usage_segment
    {%- for former in ranks[:rank - 1] %}
    left join draw_{{ former }}
        on usage_segment.usage_id = draw_{{ former }}.usage_id
        and usage_segment.segment_number = draw_{{ former }}.segment_number
    {%- endfor %}
    inner join reach_{{ rank }}
        on usage_segment.line_key = reach_{{ rank }}.line_key
        and usage_segment.charge_class = reach_{{ rank }}.charge_class
        and (
            reach_{{ rank }}.band is null or usage_segment.band = reach_{{ rank }}.band
        )
        and usage_segment.held_at >= reach_{{ rank }}.valid_from
        and usage_segment.held_at < reach_{{ rank }}.valid_to

),

queued_{{ rank }} as (

    select
        eligible_{{ rank }}.*,
        before_micro + sum(wanted_micro) over (
            partition by bucket_id
            order by started_at, usage_id, segment_number
            rows between unbounded preceding and current row
        ) as total_micro
    from eligible_{{ rank }}
    where remains_micro <> 0

),

measured_{{ rank }} as (

    select
        queued_{{ rank }}.*,
        least(greatest(total_micro, 0), size_micro)
        - least(greatest(total_micro - wanted_micro, 0), size_micro) as drawn_micro
    from queued_{{ rank }}

),

draw_{{ rank }} as (

    select
        measured_{{ rank }}.*,
        wanted_micro - drawn_micro as left_micro
    from measured_{{ rank }}
    where drawn_micro <> 0

),
{%- endfor %}

drawn as (

    {%- for rank in ranks %}
    select
        draw_{{ rank }}.*,
        {{ rank }} as draw_rank,
        {%- if loop.last %}
        true as is_last
        {%- else %}
        not exists (
            {%- for later in ranks[rank:] %}
            select 1 from draw_{{ later }}
            where draw_{{ later }}.usage_id = draw_{{ rank }}.usage_id
                and draw_{{ later }}.segment_number = draw_{{ rank }}.segment_number
            {%- if not loop.last %} union all{% endif %}
            {%- endfor %}
        ) as is_last
        {%- endif %}
    from draw_{{ rank }}
    {%- if not loop.last %}

    union all
    {%- endif %}
    {% endfor %}
),

final as (

    select
        usage_id,
        segment_number,
        bucket_id,
        line_key,
        account_bin,
        started_at,
        draw_rank,
        cast(wanted_micro as bigint) as wanted_micro,
        cast(drawn_micro as bigint) as drawn_micro,
        cast(left_micro as bigint) as left_micro,
        is_last
    from drawn

)

select * from final
