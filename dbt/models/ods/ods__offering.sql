-- Grain: one offering (offering_id).
with

offering as (

    select * from {{ source('raw', 'catalogue_offering') }}

),

final as (

    select
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(offering_type as {{ dbt.type_string() }}) as offering_type,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(sp_id as {{ dbt.type_string() }}) as sp_id,
        cast(content_id as {{ dbt.type_string() }}) as content_id,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(_loaded_at as timestamp) as _loaded_at
    from offering

)

select * from final
