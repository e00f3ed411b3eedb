-- Grain: a time during which one time band holds (calendar_id, time_zone, starts_at).
-- The days of all calendars, since a call may outlast its plan, laid on the dates on which there is
-- usage to rate that may be split, in UTC. What holds is what the clock shows: on a date on which
-- clocks change, what they skip does not come, and what they show twice comes twice. Such a date is
-- laid by the quarter of an hour.
with

guided_usage as (

    {{ usage_to_rate(ref('billing__guided_usage')) }}
        and usage.is_split

),

calendar_period as (

    select * from {{ ref('ods__calendar_period') }}

),

calendar_holiday as (

    select * from {{ ref('ods__calendar_holiday') }}

),

-- How many midnights the longest call may pass, and one day more.
reach as (

    select
        {{ integer_divide("coalesce(max(abs(quantity_micro)), 0)", '86400000000') }} + 1 as days
    from guided_usage
    where unit = 'second'

),

started as (

    select distinct time_zone, charge_date from guided_usage

),

dated as (

    select distinct
        calendar.calendar_id,
        started.time_zone,
        cast(started.charge_date + numbers.number * interval '1 day' as date) as civil_date
    from started
    cross join (select distinct calendar_id from calendar_period) as calendar
    cross join reach
    inner join {{ numbers(2) }} as numbers
        on numbers.number <= reach.days

),

typed as (

    select
        dated.calendar_id,
        dated.time_zone,
        dated.civil_date,
        case
            when calendar_holiday.holiday_date is not null then 'holiday'
            else
                case {{ iso_weekday('dated.civil_date') }}
                    when 1 then 'mon' when 2 then 'tue' when 3 then 'wed' when 4 then 'thu'
                    when 5 then 'fri' when 6 then 'sat' else 'sun'
                end
        end as day_type
    from dated
    left join calendar_holiday
        on dated.calendar_id = calendar_holiday.calendar_id
        and dated.civil_date = calendar_holiday.holiday_date

),

midnight as (

    select
        typed.*,
        cast(
            {{ utc_of_civil_time('cast(typed.civil_date as timestamp)', 'typed.time_zone') }}
            as timestamp
        ) as day_at
    from typed

),

-- Whether the clock goes on evenly from some hours before the date to some hours after it.
clocked as (

    select
        midnight.*,
        {{ civil_time("midnight.day_at + interval '28 hours'", 'midnight.time_zone') }}
        = {{ civil_time("midnight.day_at - interval '4 hours'", 'midnight.time_zone') }}
        + interval '32 hours' as is_even
    from midnight

),

quarter as (

    select
        clocked.*,
        clocked.day_at - interval '4 hours' + numbers.number * interval '15 minutes' as quarter_at
    from clocked
    inner join {{ numbers(3) }} as numbers
        on numbers.number < 128
    where not clocked.is_even

),

shown as (

    select
        quarter.*,
        {{ civil_time('quarter.quarter_at', 'quarter.time_zone') }} as civil_at
    from quarter

),

-- Stretches of a date in which the clock goes on evenly: from when, and which
-- seconds of the date.
stretch as (

    select
        calendar_id,
        time_zone,
        day_type,
        day_at as stretch_at,
        0 as from_second,
        86400 as to_second
    from clocked
    where is_even

    union all

    select
        calendar_id,
        time_zone,
        day_type,
        quarter_at as stretch_at,
        cast(
            extract(hour from civil_at) * 3600 + extract(minute from civil_at) * 60 as integer
        ) as from_second,
        cast(
            extract(hour from civil_at) * 3600 + extract(minute from civil_at) * 60 + 900 as integer
        ) as to_second
    from shown
    where cast(civil_at as date) = civil_date

),

laid as (

    select
        stretch.calendar_id,
        stretch.time_zone,
        calendar_period.band,
        {%- for bound in ['from', 'to'] %}
        stretch.stretch_at
        + ({{ 'greatest' if bound == 'from' else 'least' }}(
            calendar_period.{{ bound }}_second, stretch.{{ bound }}_second
        ) - stretch.from_second) * interval '1 second' as {{ bound }}_at
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from stretch
    inner join calendar_period
        on stretch.calendar_id = calendar_period.calendar_id
        and stretch.day_type = calendar_period.day_type
        and calendar_period.from_second < stretch.to_second
        and calendar_period.to_second > stretch.from_second

),

final as (

    select
        calendar_id,
        time_zone,
        band,
        cast(from_at as timestamp) as starts_at,
        cast(to_at as timestamp) as ends_at
    from laid
    where from_at < to_at

)

select * from final
