-- Grain: one civil day (calendar_date) of the known cycles.
-- A cycle has at most a hundred days.
with

dim_cycle as (

    select * from {{ ref('mid__dim_cycle') }}

),

digit as (
{% for digit in range(10) %}
    select {{ digit }} as digit{% if not loop.last %} union all{% endif %}
{%- endfor %}

),

day_number as (

    select tens.digit * 10 + ones.digit as day_number
    from digit as ones
    cross join digit as tens

),

spread as (

    select
        dim_cycle.cycle_id,
        dim_cycle.last_date,
        cast(
            {{ dbt.dateadd('day', 'day_number.day_number', 'dim_cycle.first_date') }} as date
        ) as calendar_date
    from dim_cycle
    cross join day_number

),

described as (

    select
        cycle_id,
        calendar_date,
        extract(year from calendar_date) as year_number,
        extract(month from calendar_date) as month_number,
        extract(day from calendar_date) as day_of_month,
        -- 3 January 2000 was a Monday
        {{ dbt.datediff("cast('2000-01-03' as date)", 'calendar_date', 'day') }} % 7 + 1
            as day_of_week
    from spread
    where calendar_date <= last_date

),

final as (

    select
        cast(calendar_date as date) as calendar_date,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(year_number as integer) as year_number,
        cast(month_number as integer) as month_number,
        cast(day_of_month as integer) as day_of_month,
        cast(day_of_week as integer) as day_of_week,
        cast(day_of_week >= 6 as boolean) as is_weekend
    from described

)

select * from final
