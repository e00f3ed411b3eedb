-- Grain: one holiday of a calendar (calendar_id, holiday_date).
with

calendar_holiday as (

    select * from {{ source('raw', 'catalogue_calendar_holiday') }}

),

final as (

    select
        cast(calendar_id as {{ dbt.type_string() }}) as calendar_id,
        cast(holiday_date as date) as holiday_date,
        cast(_loaded_at as timestamp) as _loaded_at
    from calendar_holiday

)

select * from final
