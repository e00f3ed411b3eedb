{{ config(materialized='replaced_rows', replaced='rows_of_dirty_lines') }}

-- Grain: one line in one cycle (line_key), with the digests of what it was last rated from.
-- Written last: where a run ends before, its lines have none, and are rated anew.
-- depends_on: {{ ref('billing__usage_charge') }}, {{ ref('billing__money_draw') }}
with

final as (

    select line_key, cycle_id, account_id, digest, usage_digest, used_until
    from {{ ref('billing__rating_input') }}
    where line_key in {{ dirty_lines() }}

)

select * from final
