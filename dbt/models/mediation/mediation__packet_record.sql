-- Grain: one raw record of a packet gateway (_file_id, _record_number).
-- Of landed files only: what the journal has refused, or not yet landed, is not mediated.
-- The fields of format packet_cdr (3GPP TS 32.298 PGWRecord) in the columns and types all formats
-- share. Causes 16 to 24 close a part of a session that goes on.
{%- set raw_fields = [
    'record_type', 'served_imsi', 'served_msisdn', 'served_imei', 'pgw_address',
    'serving_node_address', 'charging_id', 'apn', 'opened_local', 'utc_offset', 'duration_s',
    'cause_for_closing', 'record_sequence', 'serving_plmn', 'rat_type', 'rating_group',
    'uplink_octets', 'downlink_octets',
] %}
with

raw_row as (

    select * from {{ source('raw', 'packet_cdr') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}
    where status in ('landed', 'mediated')

),

packet_cdr as (

    select raw_row.*
    from raw_row
    inner join usage_file
        on raw_row._file_id = usage_file.file_id

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast('packet_cdr' as {{ dbt.type_string() }}) as record_format,
        cast(split_part(_file_id, '/', 1) as {{ dbt.type_string() }}) as source_id,
        cast(case when record_type = 85 then 'data' end as {{ dbt.type_string() }}) as service,
        cast('mo' as {{ dbt.type_string() }}) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(nullif(served_imsi, '') as {{ dbt.type_string() }}) as served_imsi,
        cast(nullif(served_imei, '') as {{ dbt.type_string() }}) as served_imei,
        cast(null as {{ dbt.type_string() }}) as dialled_party,
        cast({{ local_timestamp('opened_local') }} as timestamp) as started_local,
        cast({{ utc_offset_minutes('utc_offset') }} as integer) as utc_offset_minutes,
        cast(duration_s as bigint) as duration_seconds,
        cast(uplink_octets as bigint) as uplink_octets,
        cast(downlink_octets as bigint) as downlink_octets,
        cast(nullif(serving_plmn, '') as {{ dbt.type_string() }}) as serving_plmn,
        cast(null as {{ dbt.type_string() }}) as cell_id,
        cast(null as {{ dbt.type_string() }}) as trunk_group_in,
        cast(null as {{ dbt.type_string() }}) as trunk_group_out,
        cast(nullif(apn, '') as {{ dbt.type_string() }}) as apn,
        cast(rating_group as bigint) as rating_group,
        cast(cause_for_closing as integer) as cause_for_closing,
        cast(coalesce(record_sequence, 0) as integer) as partial_sequence,
        coalesce(cause_for_closing not between 16 and 24, false) as is_last_partial,
        cast(
            {{ joined_text(["'packet_cdr'", 'pgw_address', 'charging_id', 'served_msisdn']) }}
            as {{ dbt.type_string() }}
        ) as call_identity,
        cast(_decode_error as {{ dbt.type_string() }}) as decode_error,
        cast(_decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(
            case
                when _decode_error is not null then _raw_record
                else {% for field in raw_fields -%}
                    '{{ field }}=' || coalesce(cast({{ field }} as {{ dbt.type_string() }}), '')
                    {%- if not loop.last %} || ' ' ||
                    {% endif %}
                {%- endfor %}
            end as {{ dbt.type_string() }}
        ) as raw_record,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from packet_cdr

)

select * from final
