{{ config(materialized='replaced_rows', replaced='rows_of_dirty_lines', is_sliced=true) }}

-- Grain: one draw of a usage's price component from a bucket of money
-- (usage_id, usage_price_id, bucket_id).
-- After pricing, allowances of money pay what is to pay, in the order in which it was used. Of dirty lines
-- all draws are made again, from charges that were kept too.
{%- set ranks = draw_ranks(is_money=true) %}
with

allowance_access as (

    select * from {{ ref('billing__allowance_access') }} where unit = 'money'

),

allowance_cover as (

    select * from {{ ref('billing__allowance_cover') }}

),

class_price as (

    select * from {{ ref('billing__class_price') }}

),

-- Which prices each line may pay from which bucket.
reach as (

    select distinct
        allowance_access.bucket_id,
        allowance_access.line_key,
        allowance_access.size_micro,
        allowance_access.valid_from,
        allowance_access.valid_to,
        allowance_access.draw_rank,
        class_price.usage_price_id
    from allowance_access
    inner join allowance_cover
        on allowance_access.allowance_id = allowance_cover.allowance_id
    inner join class_price
        on allowance_cover.charge_class = class_price.charge_class
        and (allowance_cover.band is null or allowance_cover.band = class_price.band)

),

to_pay as (

    select
        usage_charge.*,
        cast({{ to_micro('usage_charge.amount') }} as bigint) as amount_micro
    from {{ ref('billing__usage_charge') }} as usage_charge
    where usage_charge.account_bin in {{ bins_of_this_slice() }}
        and usage_charge.line_key in {{ dirty_lines() }}
        and usage_charge.amount <> 0
        and exists (
            select 1 from reach
            where reach.line_key = usage_charge.line_key
                and reach.usage_price_id = usage_charge.usage_price_id
        )

),

{%- for rank in ranks %}

queued_{{ rank }} as (

    select
        to_pay.usage_id,
        to_pay.usage_price_id,
        to_pay.line_key,
        reach.bucket_id,
        reach.size_micro,
        to_pay.amount_micro
        {%- for former in ranks[:rank - 1] %} - coalesce(draw_{{ former }}.drawn_micro, 0)
        {%- endfor %} as wanted_micro,
        sum(
            to_pay.amount_micro
            {%- for former in ranks[:rank - 1] %} - coalesce(draw_{{ former }}.drawn_micro, 0)
            {%- endfor %}
        ) over (
            partition by reach.bucket_id
            order by to_pay.started_at, to_pay.usage_id, to_pay.component_number
            rows between unbounded preceding and current row
        ) as total_micro
    from to_pay
    inner join reach
        on to_pay.line_key = reach.line_key
        and to_pay.usage_price_id = reach.usage_price_id
        and to_pay.started_at >= reach.valid_from
        and to_pay.started_at < reach.valid_to
        and reach.draw_rank = {{ rank }}
    {%- for former in ranks[:rank - 1] %}
    left join draw_{{ former }}
        on to_pay.usage_id = draw_{{ former }}.usage_id
        and to_pay.usage_price_id = draw_{{ former }}.usage_price_id
    {%- endfor %}

),

draw_{{ rank }} as (

    select
        queued_{{ rank }}.*,
        least(greatest(total_micro, 0), size_micro)
        - least(greatest(total_micro - wanted_micro, 0), size_micro) as drawn_micro
    from queued_{{ rank }}

),
{%- endfor %}

drawn as (

    {%- for rank in ranks %}
    select draw_{{ rank }}.*, {{ rank }} as draw_rank from draw_{{ rank }} where drawn_micro <> 0
    {%- if not loop.last %}

    union all
    {%- endif %}
    {% endfor %}
),

final as (

    select
        usage_id,
        usage_price_id,
        bucket_id,
        line_key,
        draw_rank,
        {{ from_micro('drawn_micro') }} as drawn_amount
    from drawn

)

select * from final
