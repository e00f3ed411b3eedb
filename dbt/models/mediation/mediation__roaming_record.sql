-- Grain: one raw record of the clearing house (_file_id, _record_number).
-- Of landed files only: what the journal has refused, or not yet landed, is not mediated.
-- The fields of format roaming_cdr in the columns and types all formats share. Octets left empty
-- on a voice or SMS record count as 0.
{%- set raw_fields = [
    'record_id', 'service', 'direction', 'served_imsi', 'served_msisdn', 'other_party',
    'started_local', 'utc_offset', 'duration_s', 'uplink_octets', 'downlink_octets', 'serving_plmn',
] %}
with

raw_row as (

    select * from {{ source('raw', 'roaming_cdr') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')

),

roaming_cdr as (

    select raw_row.*
    from raw_row
    inner join usage_file
        on raw_row._file_id = usage_file.file_id

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast('roaming_cdr' as {{ dbt.type_string() }}) as record_format,
        cast(split_part(_file_id, '/', 1) as {{ dbt.type_string() }}) as source_id,
        cast(
            case when service in ('voice', 'sms', 'data') then service end
            as {{ dbt.type_string() }}
        ) as service,
        cast(
            case
                when direction in ('mo', 'mt') then direction
                when service = 'data' then 'mo'
            end as {{ dbt.type_string() }}
        ) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(nullif(served_imsi, '') as {{ dbt.type_string() }}) as served_imsi,
        cast(null as {{ dbt.type_string() }}) as served_imei,
        cast(nullif(other_party, '') as {{ dbt.type_string() }}) as dialled_party,
        cast({{ local_timestamp('started_local') }} as timestamp) as started_local,
        cast({{ utc_offset_minutes('utc_offset') }} as integer) as utc_offset_minutes,
        cast({{ whole_number('duration_s') }} as bigint) as duration_seconds,
        cast(
            case
                when service <> 'data' and coalesce(uplink_octets, '') = '' then 0
                else {{ whole_number('uplink_octets') }}
            end as bigint
        ) as uplink_octets,
        cast(
            case
                when service <> 'data' and coalesce(downlink_octets, '') = '' then 0
                else {{ whole_number('downlink_octets') }}
            end as bigint
        ) as downlink_octets,
        cast(nullif(serving_plmn, '') as {{ dbt.type_string() }}) as serving_plmn,
        cast(null as {{ dbt.type_string() }}) as cell_id,
        cast(null as {{ dbt.type_string() }}) as trunk_group_in,
        cast(null as {{ dbt.type_string() }}) as trunk_group_out,
        cast(null as {{ dbt.type_string() }}) as apn,
        cast(null as bigint) as rating_group,
        cast(null as integer) as cause_for_closing,
        cast(0 as integer) as partial_sequence,
        true as is_last_partial,
        cast(
            {{ joined_text(["'roaming_cdr'", 'record_id', 'serving_plmn']) }}
            as {{ dbt.type_string() }}
        ) as call_identity,
        cast(_decode_error as {{ dbt.type_string() }}) as decode_error,
        cast(_decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(
            case
                when _decode_error is not null then _raw_record
                else {{ joined_text(raw_fields, ',') }}
            end as {{ dbt.type_string() }}
        ) as raw_record,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from roaming_cdr

)

select * from final
