{{ config(post_hook="{{ forget_dirty_lines() }}") }}

-- Grain: one line in one open cycle (line_key) of which there is something to rate: what its charges
-- follow from changed since it was rated, or came to an end; or that of a line of the same account,
-- which may draw from the same buckets.
-- Where all that is new to an account is usage, what began before the first of it keeps its draws and
-- charges, and only what came after is rated (`rated_from`). Not so where usage is taken back: what was
-- drawn from a bucket tells how full it is only if nothing ever came back.
-- Accounts are rated slice by slice, of about so many usages as variable `usages_at_once` says.
{%- set rated_line = if_built('rated_line') %}
-- depends_on: {{ ref('ods__billing_cycle') }}, {{ ref('billing__backdated_line') }}
with

rating_input as (

    select * from {{ ref('billing__rating_input') }}

),

{%- if rated_line %}

rated_line as (

    select * from {{ rated_line }}
    where cycle_id in {{ open_cycles() }}

),

line as (

    select
        coalesce(rating_input.line_key, rated_line.line_key) as line_key,
        coalesce(rating_input.cycle_id, rated_line.cycle_id) as cycle_id,
        rating_input.account_id,
        rated_line.account_id as former_account_id,
        rating_input.rated_until,
        coalesce(backdated_line.backdated_from, rating_input.added_from) as new_from,
        coalesce(rating_input.usage_count, 0) as usage_count,
        coalesce(rating_input.rated_count, 0) as rated_count,
        coalesce(rating_input.is_taken_back, false) as is_taken_back,
        rating_input.usage_digest is distinct from rated_line.usage_digest as is_used,
        rating_input.digest is distinct from rated_line.digest
        or rating_input.account_id is distinct from rated_line.account_id
        or (
            rating_input.rated_usage_digest is distinct from rated_line.usage_digest
            and backdated_line.line_key is null
        ) as is_changed
    from rating_input
    full outer join rated_line
        on rating_input.line_key = rated_line.line_key
    left join {{ ref('billing__backdated_line') }} as backdated_line
        on rating_input.line_key = backdated_line.line_key

),

member as (

    select cycle_id, account_id, is_changed, is_used, is_taken_back, new_from from line
    union all
    select cycle_id, former_account_id, is_changed, is_used, is_taken_back, new_from
    from line
    where is_changed

),

dirty_pool as (

    select
        cycle_id,
        account_id,
        case
            when max(case when is_changed or is_taken_back then 1 else 0 end) = 0
                then min(new_from)
        end as rated_from
    from member
    group by cycle_id, account_id
    having max(case when is_changed or is_used then 1 else 0 end) = 1

),

dirty_line as (

    select
        line.line_key,
        dirty_pool.account_id,
        dirty_pool.rated_from,
        dirty_pool.rated_from is null
        or coalesce(dirty_pool.rated_from <= line.rated_until, false) as is_rated_again,
        line.usage_count,
        line.rated_count
    from line
    inner join dirty_pool
        on line.cycle_id = dirty_pool.cycle_id
        and coalesce(line.account_id, line.former_account_id) = dirty_pool.account_id

),
{%- else %}

-- Nothing was rated before.
dirty_line as (

    select
        line_key,
        account_id,
        cast(null as timestamp) as rated_from,
        true as is_rated_again,
        usage_count,
        rated_count
    from rating_input

),
{%- endif %}

binned as (

    select dirty_line.*, {{ account_bin('account_id') }} as account_bin
    from dirty_line

),

final as (

    select
        line_key,
        account_bin,
        cast(coalesce(rated_from, {{ beginning_of_time() }}) as timestamp) as rated_from,
        is_rated_again,
        -- At most so many: of a line that goes on from some moment it is less.
        cast({{ bigint_divide(
            'sum(usage_count - case when is_rated_again then 0 else rated_count end)'
            ~ ' over (order by account_bin)', var('usages_at_once')
        ) }} as integer) as slice_number
    from binned

)

select * from final
