{# The raw records of some files, one row each: the fields as decoded, with the latest correction
   over them, numbers in E.164 digits and times in UTC. A subquery to select from.

   Argument: the name of a relation with the columns file_id, land_batch_id, source_id, format,
   province_code, country_code, area_code, is_split_at_midnight, received_at and landed_at, one row a
   file, as in model `mediation__work_file`. A raw record is
   read only if it is of the landing that the journal names: what a killed one left behind is not.
   A correction counts for the landing whose records it was made for.
   And, where only few records are wanted, the name of a relation with their _file_id and
   _record_number. #}
{% macro decoded_record(files, records=none) -%}
    (
        select
            numbered.*,
            {{ e164('numbered.served_digits', 'numbered.country_code', 'numbered.area_code') }}
                as served_number
        from (
            select
                corrected.*,
                {{ without_prefix('corrected.served_party', 'served_prefix') }} as served_digits,
                {{ without_prefix('corrected.dialled_party', 'dialled_prefix') }} as other_digits,
                corrected.started_local
                - corrected.utc_offset_minutes * interval '1 minute' as started_at
            from (
                select
                    raw_row._file_id,
                    raw_row._record_number,
                    raw_row._byte_offset,
                    raw_row._byte_length,
                    raw_row._decode_detail,
                    raw_row._raw_record,
                    {{ as_received('raw_row') }} as as_received,
                    case when correction.has_override then null else raw_row._decode_error end
                        as decode_error,
                    raw_row.record_type,
                    {{ files }}.source_id,
                    {{ files }}.format,
                    {{ files }}.province_code,
                    {{ files }}.country_code,
                    {{ files }}.area_code,
                    {{ files }}.is_split_at_midnight,
                    {{ files }}.received_at,
                    coalesce(correction.corrected_at, {{ files }}.landed_at) as judged_as_of,
                    {{ corrected('service') }} as service,
                    {{ corrected('direction') }} as direction,
                    {{ corrected('served_msisdn') }} as served_party,
                    nullif({{ corrected('served_imsi') }}, '') as served_imsi,
                    nullif(raw_row.served_imei, '') as served_imei,
                    nullif({{ corrected('other_party') }}, '') as dialled_party,
                    {{ corrected('started_local') }} as started_local,
                    {{ corrected('utc_offset_minutes') }} as utc_offset_minutes,
                    {{ corrected('duration_seconds') }} as duration_seconds,
                    {{ corrected('uplink_octets') }} as uplink_octets,
                    {{ corrected('downlink_octets') }} as downlink_octets,
                    nullif({{ corrected('serving_plmn') }}, '') as serving_plmn,
                    nullif(raw_row.cell_id, '') as cell_id,
                    nullif(raw_row.trunk_group_in, '') as trunk_group_in,
                    nullif(raw_row.trunk_group_out, '') as trunk_group_out,
                    nullif(raw_row.apn, '') as apn,
                    raw_row.rating_group,
                    nullif(raw_row.sp_id, '') as sp_id,
                    nullif(raw_row.content_id, '') as content_id,
                    raw_row.cause_for_closing,
                    nullif({{ corrected('call_reference') }}, '') as call_reference,
                    coalesce(raw_row.partial_sequence, 0) as partial_sequence,
                    coalesce(raw_row.is_last_partial, false) as is_last_partial
                from {{ source('raw', 'usage_record') }} as raw_row
                inner join {{ files }}
                    on raw_row._batch_id = {{ files }}.land_batch_id
                    and raw_row._file_id = {{ files }}.file_id
                {%- if records %}
                inner join {{ records }} as wanted
                    on raw_row._file_id = wanted._file_id
                    and raw_row._record_number = wanted._record_number
                {%- endif %}
                left join (
                    select latest.*
                    from {{ ref('ods__correction') }} as latest
                    inner join {{ files }} as corrected_file
                        on latest.file_id = corrected_file.file_id
                        and latest.land_batch_id = corrected_file.land_batch_id
                    where latest.is_latest
                ) as correction
                    on raw_row._file_id = correction.file_id
                    and raw_row._record_number = correction.record_number
            ) as corrected
            left join {{ number_prefixes("'carrier', 'porting'") }} as dialled_prefix
                on substr(corrected.dialled_party, 1, 3) = dialled_prefix.head
            left join {{ number_prefixes("'porting'") }} as served_prefix
                on substr(corrected.served_party, 1, 3) = served_prefix.head
        ) as numbered
    )
{%- endmacro %}

{# A column of a raw record with the correction over it. Few records have one: of the others nothing
   is copied. #}
{% macro corrected(column) -%}
    case
        when correction.file_id is null then raw_row.{{ column }}
        else coalesce(correction.{{ column }}, raw_row.{{ column }})
    end
{%- endmacro %}
