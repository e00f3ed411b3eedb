-- Grain: one rejected record (_file_id, _record_number).
-- As it was received, with the reason; it waits here for a correction.
with

record as (

    select * from {{ ref('mediation__record') }}
    where reject_reason is not null

),

reject_reason as (

    select * from {{ ref('reject_reason') }}

),

final as (

    select
        cast(record._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(record._record_number as integer) as _record_number,
        cast(record.record_format as {{ dbt.type_string() }}) as record_format,
        cast(record.source_id as {{ dbt.type_string() }}) as source_id,
        cast(record.province_code as {{ dbt.type_string() }}) as province_code,
        cast(record.reject_reason as {{ dbt.type_string() }}) as reason_code,
        cast(reject_reason.severity as {{ dbt.type_string() }}) as severity,
        cast(record.decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(record.raw_record as {{ dbt.type_string() }}) as raw_record,
        cast(record.received_at as timestamp) as received_at,
        cast(record._batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(record._loaded_at as timestamp) as _loaded_at
    from record
    left join reject_reason
        on record.reject_reason = reject_reason.reason_code

)

select * from final
