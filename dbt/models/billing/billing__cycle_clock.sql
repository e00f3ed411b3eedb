-- Grain: one open cycle in one time zone (cycle_id, time_zone).
-- How far the clock is ahead of UTC, where that is the same all the cycle long: adding an interval is
-- many times faster than asking the time zone about every event. Null where clocks change.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where state not in ('approved', 'final')

),

time_zone as (

    select distinct time_zone from {{ ref('billing__product_holding') }}

),

-- No zone changes its clocks within an hour of having changed them.
hour as (

    select
        billing_cycle.cycle_id,
        billing_cycle.starts_at,
        time_zone.time_zone,
        billing_cycle.starts_at + numbers.number * interval '1 hour' as utc_hour,
        billing_cycle.starts_at + interval '1000 hours' >= billing_cycle.ends_at as is_looked_at
    from billing_cycle
    cross join time_zone
    inner join {{ numbers(3) }} as numbers
        on billing_cycle.starts_at + numbers.number * interval '1 hour' <= billing_cycle.ends_at

),

ahead as (

    select
        hour.*,
        {{ seconds_between('utc_hour', civil_time('utc_hour', 'time_zone')) }} as ahead_seconds
    from hour

),

final as (

    select
        cycle_id,
        time_zone,
        cast(
            case
                when min(ahead_seconds) = max(ahead_seconds) and max(case when is_looked_at then 1 else 0 end) = 1
                    then min(ahead_seconds)
            end as integer
        ) as ahead_seconds
    from ahead
    group by cycle_id, time_zone

)

select * from final
