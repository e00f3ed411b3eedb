-- Grain: one period of one type of day (calendar_id, day_type, from_second).
with

calendar_period as (

    select * from {{ source('raw', 'catalogue_calendar_period') }}

),

final as (

    select
        cast(calendar_id as {{ dbt.type_string() }}) as calendar_id,
        cast(band as {{ dbt.type_string() }}) as band,
        cast(day_type as {{ dbt.type_string() }}) as day_type,
        cast(from_second as integer) as from_second,
        cast(to_second as integer) as to_second,
        cast(_loaded_at as timestamp) as _loaded_at
    from calendar_period

)

select * from final
