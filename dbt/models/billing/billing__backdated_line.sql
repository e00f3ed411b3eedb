-- Grain: one rated line to which usage came that began no later than what is rated of its account, while
-- nothing changed of what is rated of the line (line_key); and when the first that came began.
-- What is rated of it is what has charges in `billing.usage_charge`, which is looked up by name.
{%- set usage_charge = if_built('usage_charge') %}
{%- set rated_line = if_built('rated_line') %}
-- depends_on: {{ ref('billing__usage_guide') }}
with

rating_input as (

    select * from {{ ref('billing__rating_input') }}

),

{%- if usage_charge and rated_line %}

line as (

    select rating_input.line_key, rated_line.usage_digest
    from rating_input
    inner join {{ rated_line }} as rated_line
        on rating_input.line_key = rated_line.line_key
        and rating_input.digest = rated_line.digest
    where rating_input.rated_usage_digest <> rated_line.usage_digest
        and not rating_input.is_taken_back

),

charged as (

    select line_key, usage_id
    from {{ usage_charge }}
    where component_number = 1 and line_key in (select line_key from line)

),

usage as (

    select usage_guide.*, charged.usage_id is not null as is_charged
    from {{ ref('billing__usage_guide') }} as usage_guide
    left join charged
        on usage_guide.line_key = charged.line_key
        and usage_guide.usage_id = charged.usage_id
    where usage_guide.line_key in (select line_key from line)

),

told as (

    select
        line_key,
        {{ usage_digest('usage', 'is_charged') }} as charged_digest,
        min(case when not is_charged then started_at end) as backdated_from
    from usage
    group by line_key

),

final as (

    select told.line_key, told.backdated_from
    from told
    inner join line
        on told.line_key = line.line_key
        and told.charged_digest = line.usage_digest

)
{%- else %}

final as (

    select line_key, used_until as backdated_from from rating_input where 1 = 0

)
{%- endif %}

select * from final
