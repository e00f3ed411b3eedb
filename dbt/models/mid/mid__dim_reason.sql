-- Grain: one reason (reason_code).
with

reject_reason as (

    select * from {{ ref('reject_reason') }}

),

filter_reason as (

    select * from {{ ref('filter_reason') }}

),

reason as (

    select reason_code, 'rejected' as outcome, name_zh, name_en
    from reject_reason

    union all

    select reason_code, 'filtered' as outcome, name_zh, name_en
    from filter_reason

),

final as (

    select
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(outcome as {{ dbt.type_string() }}) as outcome,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en
    from reason

)

select * from final
