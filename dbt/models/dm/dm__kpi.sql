-- Grain: one KPI (kpi_code).
with

dim_kpi as (

    select * from {{ ref('mid__dim_kpi') }}

),

final as (

    select
        cast(kpi_code as {{ dbt.type_string() }}) as kpi_code,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(formula as {{ dbt.type_string() }}) as formula,
        cast(formula_zh as {{ dbt.type_string() }}) as formula_zh,
        cast(formula_en as {{ dbt.type_string() }}) as formula_en,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(unit_zh as {{ dbt.type_string() }}) as unit_zh,
        cast(owner as {{ dbt.type_string() }}) as owner,
        cast(target_value as decimal(18, 6)) as target_value,
        cast(sort_order as integer) as sort_order
    from dim_kpi

)

select * from final
