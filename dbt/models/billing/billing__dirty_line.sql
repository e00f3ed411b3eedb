-- Grain: one line in one open cycle (line_key) that has to be rated again: something that its charges
-- follow from changed since it was rated, or came to an end; or of a line of the same account, which
-- may draw from the same buckets.
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
        rating_input.digest is distinct from rated_line.digest
        or rating_input.account_id is distinct from rated_line.account_id as is_changed
    from rating_input
    full outer join rated_line
        on rating_input.line_key = rated_line.line_key

),

dirty_pool as (

    select cycle_id, account_id from line where is_changed
    union
    select cycle_id, former_account_id from line where is_changed

),

final as (

    select line.line_key
    from line
    where exists (
        select 1 from dirty_pool
        where dirty_pool.cycle_id = line.cycle_id
            and dirty_pool.account_id = coalesce(line.account_id, line.former_account_id)
    )

)
{%- else %}

-- Nothing was rated before.
final as (

    select line_key from rating_input

)
{%- endif %}

select * from final
