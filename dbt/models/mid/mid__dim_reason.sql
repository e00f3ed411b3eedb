-- Grain: one reason (reason_code).
with

outcome_reason as (

    select * from {{ ref('outcome_reason') }}

),

final as (

    select
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(severity as {{ dbt.type_string() }}) as severity,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en
    from outcome_reason

)

select * from final
