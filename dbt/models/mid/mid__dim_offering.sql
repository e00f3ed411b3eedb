-- Grain: one offering (offering_id).
with

offering as (

    select * from {{ ref('ods__offering') }}

),

final as (

    select
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(offering_type as {{ dbt.type_string() }}) as offering_type,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(status as {{ dbt.type_string() }}) as status
    from offering

)

select * from final
