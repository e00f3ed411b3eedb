-- Grain: one file (file_id).
with

usage_file as (

    select * from {{ ref('ods__usage_file') }}

),

file_balance as (

    select * from {{ ref('mediation__file_balance') }}

),

batch as (

    select * from {{ ref('ods__batch') }}

),

mediation_work as (

    select * from {{ ref('ods__mediation_work') }}

),

-- Runs that took a file up since it was landed; later ones only judged it again.
mediation_run as (

    select
        usage_file.file_id,
        batch.started_at,
        batch.ended_at,
        batch.record_count,
        row_number() over (
            partition by usage_file.file_id order by batch.ended_at, batch.batch_id
        ) as run_number
    from usage_file
    inner join mediation_work
        on usage_file.file_id = mediation_work.file_id
    inner join batch
        on mediation_work.batch_id = batch.batch_id
    where usage_file.status = 'mediated'
        and batch.ended_at >= usage_file.landed_at

),

-- A batch's time is shared out by records: of its files one cannot be told from another.
processed as (

    select
        usage_file.file_id,
        mediation_run.ended_at as mediated_at,
        {%- for batch in ['landing', 'mediation_run'] %}
        case
            when usage_file.decoded_record_count = 0 then 0
            else {{ integer_divide(
                'cast(usage_file.decoded_record_count as decimal(18, 0)) * cast('
                ~ microseconds_between(batch ~ '.started_at', batch ~ '.ended_at')
                ~ ' as decimal(18, 0))',
                'nullif(' ~ batch ~ '.record_count, 0)'
            ) }}
        end as {{ batch }}_microseconds
        {{- ',' if not loop.last }}
        {%- endfor %}
    from usage_file
    inner join mediation_run
        on usage_file.file_id = mediation_run.file_id
            and mediation_run.run_number = 1
    left join batch as landing
        on usage_file.batch_id = landing.batch_id

),

counted as (

    select
        usage_file.*,
        processed.mediated_at,
        processed.landing_microseconds + processed.mediation_run_microseconds
            as processing_microseconds,
        file_balance.raw_count,
        file_balance.standard_count,
        file_balance.merged_count,
        file_balance.duplicate_count,
        file_balance.rejected_count,
        file_balance.filtered_count,
        file_balance.waiting_count,
        file_balance.warned_count,
        file_balance.is_late,
        file_balance.has_count_mismatch
    from usage_file
    left join file_balance
        on usage_file.file_id = file_balance.file_id
    left join processed
        on usage_file.file_id = processed.file_id

),

final as (

    select
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(file_name as {{ dbt.type_string() }}) as file_name,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(size_bytes as bigint) as size_bytes,
        cast(created_at_source as timestamp) as created_at_source,
        cast(received_at as timestamp) as received_at,
        cast(collected_at as timestamp) as collected_at,
        cast(landed_at as timestamp) as landed_at,
        cast(mediated_at as timestamp) as mediated_at,
        cast(processing_microseconds as bigint) as processing_microseconds,
        cast(declared_record_count as bigint) as declared_record_count,
        cast(decoded_record_count as bigint) as decoded_record_count,
        cast(raw_count as bigint) as raw_count,
        cast(standard_count as bigint) as standard_count,
        cast(merged_count as bigint) as merged_count,
        cast(duplicate_count as bigint) as duplicate_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(filtered_count as bigint) as filtered_count,
        cast(waiting_count as bigint) as waiting_count,
        cast(warned_count as bigint) as warned_count,
        cast(is_late as boolean) as is_late,
        cast(has_count_mismatch as boolean) as has_count_mismatch
    from counted

)

select * from final
