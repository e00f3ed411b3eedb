-- Rows: lines that this run rated of which more usage is charged than there is, or less. Of all their
-- usage: what is kept has to have been charged before.
with

rating_input as (

    select line_key, usage_count from {{ ref('billing__rating_input') }}
    where line_key in {{ dirty_lines() }}

),

charged as (

    select line_key, count(*) as charged_count
    from {{ ref('billing__usage_charge') }}
    where component_number = 1 and line_key in {{ dirty_lines() }}
    group by line_key

)

select
    rating_input.line_key,
    rating_input.usage_count,
    coalesce(charged.charged_count, 0) as charged_count
from rating_input
left join charged
    on rating_input.line_key = charged.line_key
where rating_input.usage_count <> coalesce(charged.charged_count, 0)
