-- Grain: one source, outcome and reason (source_id, outcome, reason_code).
with

record_outcome as (

    select * from {{ ref('mediation__record_outcome') }}

),

counted as (

    select
        source_id,
        outcome,
        reason_code,
        count(*) as record_count
    from record_outcome
    group by source_id, outcome, reason_code

),

final as (

    select
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(outcome as {{ dbt.type_string() }}) as outcome,
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(record_count as bigint) as record_count
    from counted

)

select * from final
