-- Grain: one beginning of Chinese numbers (area_prefix): seven digits of mobile numbers, or the area
-- code of fixed lines.
with

number_segment_area as (

    select * from {{ source('raw', 'number_segment_area') }}

),

area_code as (

    select * from {{ ref('area_code') }}

),

final as (

    select
        cast(number_segment_area.segment as {{ dbt.type_string() }}) as area_prefix,
        cast(number_segment_area.area_code as {{ dbt.type_string() }}) as area_code
    from number_segment_area

    union all

    select
        cast(area_code.area_code as {{ dbt.type_string() }}) as area_prefix,
        cast(area_code.area_code as {{ dbt.type_string() }}) as area_code
    from area_code

)

select * from final
