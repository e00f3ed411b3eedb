-- Grain: one rejected record (_file_id, _record_number).
-- As it was received, with the reason; it waits here for a correction.
{{ config(
    materialized='replaced_rows', replaced='rows_of_files_mediated_again', looked_up_by=['_file_id']
) }}
with

work_file as (

    select * from {{ ref('mediation__work_file') }}
    where is_live

),

run as (

    select max(mediation_batch_id) as mediation_batch_id from work_file

),

record as (

    select * from {{ ref('mediation__record') }}
    where _file_id in (select file_id from work_file)
        and reject_reason is not null

),

outcome_reason as (

    select * from {{ ref('outcome_reason') }}

),

decoded as (

    select * from {{ decoded_record('work_file', 'record') }} as decoded_record

),

final as (

    select
        cast(record._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(record._record_number as integer) as _record_number,
        cast(decoded.format as {{ dbt.type_string() }}) as record_format,
        cast(decoded.source_id as {{ dbt.type_string() }}) as source_id,
        cast(decoded.province_code as {{ dbt.type_string() }}) as province_code,
        cast(record.reject_reason as {{ dbt.type_string() }}) as reason_code,
        cast(outcome_reason.severity as {{ dbt.type_string() }}) as severity,
        cast(decoded._decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(decoded.as_received as {{ dbt.type_string() }}) as raw_record,
        cast(decoded.service as {{ dbt.type_string() }}) as service,
        cast(decoded.direction as {{ dbt.type_string() }}) as direction,
        cast(decoded.served_party as {{ dbt.type_string() }}) as served_msisdn,
        cast(decoded.served_imsi as {{ dbt.type_string() }}) as served_imsi,
        cast(decoded.dialled_party as {{ dbt.type_string() }}) as other_party,
        cast(decoded.started_local as timestamp) as started_local,
        cast(decoded.utc_offset_minutes as integer) as utc_offset_minutes,
        cast(decoded.duration_seconds as bigint) as duration_seconds,
        cast(decoded.uplink_octets as bigint) as uplink_octets,
        cast(decoded.downlink_octets as bigint) as downlink_octets,
        cast(decoded.serving_plmn as {{ dbt.type_string() }}) as serving_plmn,
        cast(decoded.call_reference as {{ dbt.type_string() }}) as call_reference,
        cast(decoded._byte_offset as bigint) as _byte_offset,
        cast(decoded._byte_length as integer) as _byte_length,
        cast(decoded.received_at as timestamp) as received_at,
        cast(run.mediation_batch_id as {{ dbt.type_string() }}) as _batch_id
    from decoded
    inner join record
        on decoded._file_id = record._file_id
        and decoded._record_number = record._record_number
    left join outcome_reason
        on record.reject_reason = outcome_reason.reason_code
    cross join run

)

select * from final
