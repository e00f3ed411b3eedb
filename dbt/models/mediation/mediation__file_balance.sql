-- Grain: one landed file (file_id), also one without any record.
-- Its records by outcome, beside the number of records the file says it has.
{{ config(materialized='replaced_rows', replaced='balance_of_touched_files') }}
with

work_file as (

    select * from {{ ref('mediation__work_file') }}

),

call_record as (

    select * from {{ ref('mediation__call_record') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')
        and file_id in (
            select file_id from work_file
            union
            select _file_id from call_record
        )

),

source as (

    select * from {{ ref('ods__source') }}

),

record_outcome as (

    select * from {{ ref('mediation__record_outcome') }}
    where _file_id in (select file_id from usage_file)

),

outcome_count as (

    select
        _file_id,
        count(*) as raw_count,
        sum(case when outcome = 'standard' then 1 else 0 end) as standard_count,
        sum(case when outcome = 'merged' then 1 else 0 end) as merged_count,
        sum(case when outcome = 'duplicate' then 1 else 0 end) as duplicate_count,
        sum(case when outcome = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when outcome = 'filtered' then 1 else 0 end) as filtered_count,
        sum(case when outcome = 'merged' and reason_code = 'waiting' then 1 else 0 end)
            as waiting_count,
        sum(case when warning_reason is not null then 1 else 0 end) as warned_count
    from record_outcome
    group by _file_id

),

run as (

    select max(mediation_batch_id) as mediation_batch_id from work_file

),

final as (

    select
        cast(usage_file.file_id as {{ dbt.type_string() }}) as file_id,
        cast(usage_file.source_id as {{ dbt.type_string() }}) as source_id,
        cast(usage_file.file_name as {{ dbt.type_string() }}) as file_name,
        cast(usage_file.province_code as {{ dbt.type_string() }}) as province_code,
        cast(usage_file.received_at as timestamp) as received_at,
        cast(coalesce(outcome_count.raw_count, 0) as bigint) as raw_count,
        {%- for outcome in [
            'standard', 'merged', 'duplicate', 'rejected', 'filtered', 'waiting', 'warned'
        ] %}
        cast(coalesce(outcome_count.{{ outcome }}_count, 0) as bigint) as {{ outcome }}_count,
        {%- endfor %}
        cast(usage_file.declared_record_count as bigint) as declared_record_count,
        cast(usage_file.decoded_record_count as bigint) as decoded_record_count,
        coalesce(
            usage_file.received_at
            > usage_file.created_at_source + source.late_after_hours * interval '1 hour',
            false
        ) as is_late,
        coalesce(
            usage_file.declared_record_count <> coalesce(outcome_count.raw_count, 0), false
        ) as has_count_mismatch,
        cast(run.mediation_batch_id as {{ dbt.type_string() }}) as _batch_id
    from usage_file
    left join source
        on usage_file.source_id = source.source_id
    left join outcome_count
        on usage_file.file_id = outcome_count._file_id
    cross join run

)

select * from final
