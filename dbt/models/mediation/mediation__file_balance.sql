-- Grain: one landed file (file_id), also one without any record.
-- Its records by outcome, beside the number of records the file says it has.
with

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')

),

source as (

    select * from {{ ref('ods__source') }}

),

record_outcome as (

    select * from {{ ref('mediation__record_outcome') }}

),

outcome_count as (

    select
        _file_id,
        count(*) as raw_count,
        sum(case when outcome = 'standard' then 1 else 0 end) as standard_count,
        sum(case when outcome = 'merged' then 1 else 0 end) as merged_count,
        sum(case when outcome = 'duplicate' then 1 else 0 end) as duplicate_count,
        sum(case when outcome = 'rejected' then 1 else 0 end) as rejected_count,
        sum(case when outcome = 'filtered' then 1 else 0 end) as filtered_count
    from record_outcome
    group by _file_id

),

final as (

    select
        cast(usage_file.file_id as {{ dbt.type_string() }}) as file_id,
        cast(usage_file.source_id as {{ dbt.type_string() }}) as source_id,
        cast(usage_file.file_name as {{ dbt.type_string() }}) as file_name,
        cast(usage_file.province_code as {{ dbt.type_string() }}) as province_code,
        cast(usage_file.received_at as timestamp) as received_at,
        cast(coalesce(outcome_count.raw_count, 0) as bigint) as raw_count,
        cast(coalesce(outcome_count.standard_count, 0) as bigint) as standard_count,
        cast(coalesce(outcome_count.merged_count, 0) as bigint) as merged_count,
        cast(coalesce(outcome_count.duplicate_count, 0) as bigint) as duplicate_count,
        cast(coalesce(outcome_count.rejected_count, 0) as bigint) as rejected_count,
        cast(coalesce(outcome_count.filtered_count, 0) as bigint) as filtered_count,
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
        cast(usage_file.batch_id as {{ dbt.type_string() }}) as _batch_id
    from usage_file
    left join source
        on usage_file.source_id = source.source_id
    left join outcome_count
        on usage_file.file_id = outcome_count._file_id

)

select * from final
