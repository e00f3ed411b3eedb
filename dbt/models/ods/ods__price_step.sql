-- Grain: one step of a usage price (usage_price_id, step_number).
with

price_step as (

    select * from {{ source('raw', 'catalogue_price_step') }}

),

final as (

    select
        cast(usage_price_id as {{ dbt.type_string() }}) as usage_price_id,
        cast(step_number as integer) as step_number,
        cast(above_quantity as numeric(24, 6)) as above_quantity,
        cast(up_to_quantity as numeric(24, 6)) as up_to_quantity,
        cast(start_quantity as numeric(24, 6)) as start_quantity,
        cast(cap_quantity as numeric(24, 6)) as cap_quantity,
        cast(increment_quantity as numeric(24, 6)) as increment_quantity,
        cast(base_numerator as numeric(38, 0)) as base_numerator,
        cast(unit_numerator as numeric(38, 0)) as unit_numerator,
        cast(_loaded_at as timestamp) as _loaded_at
    from price_step

)

select * from final
