-- Grain: one raw record (_file_id, _record_number).
-- What became of it: exactly one of rejected, duplicate, filtered, merged, standard, in this order
-- of precedence. A long call is standard at its first part and merged at the others; while it waits
-- for parts, all of them are merged (reason waiting). A view: nothing is stored twice.
{{ config(materialized='view') }}
with

record as (

    select * from {{ ref('mediation__record') }}

),

repeated_record as (

    select * from {{ ref('mediation__repeated_record') }}

),

final as (

    select
        cast(record._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(record._record_number as integer) as _record_number,
        cast(split_part(record._file_id, '/', 1) as {{ dbt.type_string() }}) as source_id,
        cast(record.service as {{ dbt.type_string() }}) as service,
        cast(
            case
                when record.reject_reason is not null then 'rejected'
                when repeated_record.outcome is not null then repeated_record.outcome
                when record.filter_reason is not null then 'filtered'
                else 'standard'
            end as {{ dbt.type_string() }}
        ) as outcome,
        cast(
            coalesce(
                record.reject_reason,
                case
                    when repeated_record.outcome is null then record.filter_reason
                    else repeated_record.reason_code
                end
            ) as {{ dbt.type_string() }}
        ) as reason_code,
        cast(record.warning_reason as {{ dbt.type_string() }}) as warning_reason,
        cast(
            case
                when record.reject_reason is not null then null
                when repeated_record.outcome = 'filtered' then null
                when repeated_record.outcome is not null then repeated_record.usage_id
                when record.filter_reason is null then record.call_key
            end as {{ key_type() }}
        ) as usage_id,
        record.duration_seconds,
        record.uplink_octets,
        record.downlink_octets
    from record
    left join repeated_record
        on record._file_id = repeated_record._file_id
        and record._record_number = repeated_record._record_number

)

select * from final
