-- Grain: one record of a call that was put together (_file_id, _record_number).
-- What became of it there: duplicate, filtered, merged, or standard at the first part of a long call
-- that does not wait, and of a whole call at its original; there with what the call measures.
-- Records of calls that were never put together are not here.
{{ config(
    materialized='replaced_rows',
    replaced=['rows_of_files_mediated_again', 'rows_of_touched_calls'],
    looked_up_by=['_file_id', 'call_key'],
) }}
with

-- Only to have the files whose rows are replaced built before.
work_file as (

    select max(mediation_batch_id) as mediation_batch_id from {{ ref('mediation__work_file') }}

),

touched_call as (

    select * from {{ ref('mediation__touched_call') }}

),

call_record as (

    select * from {{ ref('mediation__call_record') }}

),

long_call as (

    select * from {{ ref('mediation__long_call') }}
    where call_key in (select call_key from touched_call)

),

decided as (

    select
        call_record.*,
        case
            when call_record.is_duplicate then 'duplicate'
            when call_record.filter_reason is not null then 'filtered'
            when call_record.partial_sequence = 0 then 'standard'
            when long_call.state = 'waiting' then 'merged'
            when
                call_record._file_id = long_call._file_id
                and call_record._record_number = long_call._record_number
                then 'standard'
            else 'merged'
        end as outcome,
        long_call.state,
        long_call.duration_seconds as call_duration_seconds,
        long_call.uplink_octets as call_uplink_octets,
        long_call.downlink_octets as call_downlink_octets,
        long_call.cause_for_closing as call_cause_for_closing,
        long_call.partial_count
    from call_record
    left join long_call
        on call_record.usage_id = long_call.usage_id

),

final as (

    select
        cast(decided._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(decided._record_number as integer) as _record_number,
        cast(decided.call_key as {{ key_type() }}) as call_key,
        cast(decided.usage_id as {{ key_type() }}) as usage_id,
        cast(decided.outcome as {{ dbt.type_string() }}) as outcome,
        cast(
            case
                when decided.outcome = 'filtered' then decided.filter_reason
                when decided.outcome = 'merged' and decided.state = 'waiting' then 'waiting'
            end as {{ dbt.type_string() }}
        ) as reason_code,
        cast(
            coalesce(decided.call_duration_seconds, decided.duration_seconds) as bigint
        ) as duration_seconds,
        cast(coalesce(decided.call_uplink_octets, decided.uplink_octets) as bigint)
            as uplink_octets,
        cast(coalesce(decided.call_downlink_octets, decided.downlink_octets) as bigint)
            as downlink_octets,
        cast(
            case
                when decided.state is null then decided.cause_for_closing
                else decided.call_cause_for_closing
            end as integer
        ) as cause_for_closing,
        cast(coalesce(decided.partial_count, 1) as integer) as partial_count,
        coalesce(decided.state = 'timed_out', false) as is_incomplete,
        cast(work_file.mediation_batch_id as {{ dbt.type_string() }}) as _batch_id
    from decided
    cross join work_file

)

select * from final
