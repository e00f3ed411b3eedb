{{ config(post_hook="{{ forget_dirty_lines() }}") }}

-- Grain: one line in one open cycle (line_key) that has to be rated again: something that its charges
-- follow from changed since it was rated, or came to an end; or of a line of the same account, which
-- may draw from the same buckets.
-- Where all that is new to an account is usage later than what is rated, that keeps its draws and
-- charges, and only what came after it is rated (`kept_until`). Not so where usage is taken back: what
-- was drawn from a bucket tells how full it is only if nothing ever came back.
-- Accounts are rated slice by slice, of about so many usages as variable `usages_at_once` says.
{%- set rated_line = adapter.get_relation(this.database, this.schema, 'rated_line')
    if execute and this else none %}
-- depends_on: {{ ref('ods__billing_cycle') }}
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
        coalesce(rating_input.usage_count, 0) as usage_count,
        coalesce(rating_input.rated_count, 0) as rated_count,
        coalesce(rating_input.is_taken_back, false) as is_taken_back,
        rating_input.usage_digest is distinct from rated_line.usage_digest as is_used,
        rating_input.digest is distinct from rated_line.digest
        or rating_input.account_id is distinct from rated_line.account_id
        or rating_input.rated_usage_digest is distinct from rated_line.usage_digest as is_changed
    from rating_input
    full outer join rated_line
        on rating_input.line_key = rated_line.line_key

),

member as (

    select cycle_id, account_id, is_changed, is_used, is_taken_back, rated_until from line
    union all
    select cycle_id, former_account_id, is_changed, is_used, is_taken_back, rated_until
    from line
    where is_changed

),

dirty_pool as (

    select
        cycle_id,
        account_id,
        case
            when max(case when is_changed or is_taken_back then 1 else 0 end) = 0
                then max(rated_until)
        end as kept_until
    from member
    group by cycle_id, account_id
    having max(case when is_changed or is_used then 1 else 0 end) = 1

),

dirty_line as (

    select
        line.line_key,
        dirty_pool.account_id,
        dirty_pool.kept_until,
        case
            when dirty_pool.kept_until is null then line.usage_count
            else line.usage_count - line.rated_count
        end as count_to_rate
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
        cast(null as timestamp) as kept_until,
        usage_count as count_to_rate
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
        cast(kept_until as timestamp) as kept_until,
        cast({{ bigint_divide(
            'sum(count_to_rate) over (order by account_bin)', var('usages_at_once')
        ) }} as integer) as slice_number
    from binned

)

select * from final
