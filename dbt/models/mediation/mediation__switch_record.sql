-- Grain: one raw record of a switch (_file_id, _record_number).
-- Of landed files only: what the journal has refused, or not yet landed, is not mediated.
-- The fields of format switch_cdr in the columns and types all formats share. A field that cannot
-- be read is null here; mediation.record says why the record is rejected.
{%- set raw_fields = [
    "'CDR'", 'service', 'direction', 'served_msisdn', 'served_imsi', 'served_imei', 'other_party',
    'started_local', 'utc_offset', 'duration_s', 'serving_plmn', 'cell_id', 'trunk_group_in',
    'trunk_group_out', 'call_reference', 'partial_sequence', 'is_last_partial',
    'cause_for_closing',
] %}
{%- set source_id = "split_part(_file_id, '/', 1)" %}
with

raw_row as (

    select * from {{ source('raw', 'switch_cdr') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')

),

switch_cdr as (

    select raw_row.*
    from raw_row
    inner join usage_file
        on raw_row._file_id = usage_file.file_id

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast('switch_cdr' as {{ dbt.type_string() }}) as record_format,
        cast({{ source_id }} as {{ dbt.type_string() }}) as source_id,
        cast(
            case when service in ('voice', 'sms') then service end as {{ dbt.type_string() }}
        ) as service,
        cast(
            case when direction in ('mo', 'mt') then direction end as {{ dbt.type_string() }}
        ) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(nullif(served_imsi, '') as {{ dbt.type_string() }}) as served_imsi,
        cast(nullif(served_imei, '') as {{ dbt.type_string() }}) as served_imei,
        cast(nullif(other_party, '') as {{ dbt.type_string() }}) as dialled_party,
        cast({{ local_timestamp('started_local') }} as timestamp) as started_local,
        cast({{ utc_offset_minutes('utc_offset') }} as integer) as utc_offset_minutes,
        cast({{ whole_number('duration_s') }} as bigint) as duration_seconds,
        cast(0 as bigint) as uplink_octets,
        cast(0 as bigint) as downlink_octets,
        cast(nullif(serving_plmn, '') as {{ dbt.type_string() }}) as serving_plmn,
        cast(nullif(cell_id, '') as {{ dbt.type_string() }}) as cell_id,
        cast(nullif(trunk_group_in, '') as {{ dbt.type_string() }}) as trunk_group_in,
        cast(nullif(trunk_group_out, '') as {{ dbt.type_string() }}) as trunk_group_out,
        cast(null as {{ dbt.type_string() }}) as apn,
        cast(null as bigint) as rating_group,
        cast(
            case when {{ matches('cause_for_closing', '[0-9]{1,4}') }} then cause_for_closing end
            as integer
        ) as cause_for_closing,
        coalesce(
            cast(
                case when {{ matches('partial_sequence', '[0-9]{1,4}') }} then partial_sequence end
                as integer
            ),
            0
        ) as partial_sequence,
        coalesce(is_last_partial = '1', false) as is_last_partial,
        cast(
            {{ joined_text([
                "'switch_cdr'", source_id, 'served_msisdn', 'call_reference', 'service',
                'direction',
            ]) }} as {{ dbt.type_string() }}
        ) as call_identity,
        cast(_decode_error as {{ dbt.type_string() }}) as decode_error,
        cast(_decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(
            case
                when _decode_error is not null then _raw_record
                else {{ joined_text(raw_fields) }}
            end as {{ dbt.type_string() }}
        ) as raw_record,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from switch_cdr

)

select * from final
