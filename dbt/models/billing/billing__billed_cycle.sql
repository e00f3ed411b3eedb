-- Grain: one cycle (cycle_id), and the cycle on whose bill usage of it goes.
-- An open cycle bills its own; what comes late for a closed one goes on the next bill that can still
-- change. Null while there is none.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

open_cycle as (

    select * from billing_cycle where cycle_id in {{ open_cycles() }}

),

-- Cycles are named by their months, so the least name is the first.
final as (

    select
        billing_cycle.cycle_id,
        billing_cycle.starts_at,
        billing_cycle.ends_at,
        billing_cycle.cycle_id not in {{ open_cycles() }} as is_closed,
        min(open_cycle.cycle_id) as billed_cycle_id
    from billing_cycle
    left join open_cycle
        on open_cycle.starts_at >= billing_cycle.starts_at
    group by billing_cycle.cycle_id, billing_cycle.starts_at, billing_cycle.ends_at

)

select * from final
