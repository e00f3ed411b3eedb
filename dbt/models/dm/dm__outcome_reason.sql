-- Grain: one source, outcome and reason (source_id, outcome, reason_code).
with

fct_record_outcome_summary as (

    select * from {{ ref('mid__fct_record_outcome_summary') }}

),

dim_reason as (

    select * from {{ ref('mid__dim_reason') }}

),

named as (

    select
        fct_record_outcome_summary.*,
        dim_reason.name_zh as reason_name_zh,
        dim_reason.name_en as reason_name_en
    from fct_record_outcome_summary
    left join dim_reason
        on fct_record_outcome_summary.reason_code = dim_reason.reason_code

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(outcome as {{ dbt.type_string() }}) as outcome,
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(reason_name_zh as {{ dbt.type_string() }}) as reason_name_zh,
        cast(reason_name_en as {{ dbt.type_string() }}) as reason_name_en,
        cast(record_count as bigint) as record_count
    from named

)

select * from final
