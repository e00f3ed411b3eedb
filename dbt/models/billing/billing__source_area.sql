-- Grain: one source (source_id) that serves one area, with its area code.
-- Kept here, since a view must read no table that other steps replace.
with

final as (

    select source_id, area_code from {{ ref('ods__source') }}
    where area_code is not null

)

select * from final
