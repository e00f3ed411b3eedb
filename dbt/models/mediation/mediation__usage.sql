-- Grain: one usage (usage_id): a call, a message or a data session that happened.
-- The standard records; a long call with its parts added up, from the start of its first part to
-- the cause its last part was closed for. Usage of a source that demands it is split at local
-- midnight; the octets go with the seconds, and the pieces add up to the whole.
-- A view: a usage is its record, but for the few calls that were put together. A common table
-- expression that is read twice is kept whole by some engines, so the records and the calls that may
-- be split are read apart.
{{ config(materialized='view') }}
with

record as (

    select * from {{ ref('mediation__record') }}

),

mediated_file as (

    select * from {{ ref('mediation__mediated_file') }}

),

repeated_record as (

    select * from {{ ref('mediation__repeated_record') }}

),

record_to_split as (

    select
        _file_id, _record_number, duration_seconds,
        started_at + utc_offset_minutes * interval '1 minute' as started_local
    from {{ ref('mediation__record') }}
    where is_split_at_midnight

),

call_to_split as (

    select _file_id, _record_number, duration_seconds from {{ ref('mediation__repeated_record') }}

),

day_number as (

    select tens.digit * 10 + ones.digit as day_number
    from (
        {%- for digit in range(10) %}
        select {{ digit }} as digit {% if not loop.last %}union all{% endif %}
        {%- endfor %}
    ) as tens
    cross join (
        {%- for digit in range(10) %}
        select {{ digit }} as digit {% if not loop.last %}union all{% endif %}
        {%- endfor %}
    ) as ones

),

splittable as (

    select
        record_to_split._file_id,
        record_to_split._record_number,
        coalesce(call_to_split.duration_seconds, record_to_split.duration_seconds)
            as duration_seconds,
        record_to_split.started_local
    from record_to_split
    left join call_to_split
        on record_to_split._file_id = call_to_split._file_id
        and record_to_split._record_number = call_to_split._record_number

),

measured as (

    select
        splittable.*,
        cast(
            86400
            - extract(hour from started_local) * 3600
            - extract(minute from started_local) * 60
            - floor(extract(second from started_local)) as bigint
        ) as seconds_to_midnight
    from splittable

),

-- Usage that goes past midnight: the seconds between which it is in each day (the first: from 0).
piece as (

    select
        measured._file_id,
        measured._record_number,
        measured.duration_seconds as whole_seconds,
        day_number.day_number,
        case
            when day_number.day_number = 0 then 0
            else measured.seconds_to_midnight + (day_number.day_number - 1) * 86400
        end as begins_at_second,
        least(
            measured.duration_seconds,
            measured.seconds_to_midnight + day_number.day_number * 86400
        ) as ends_at_second
    from measured
    cross join day_number
    where measured.duration_seconds > measured.seconds_to_midnight
        and measured.duration_seconds
        > measured.seconds_to_midnight + (day_number.day_number - 1) * 86400

),

whole as (

    select
        record.*,
        mediated_file.source_id,
        mediated_file.province_code,
        mediated_file._batch_id,
        mediated_file._loaded_at,
        coalesce(repeated_record.usage_id, record.call_key) as call_usage_id,
        coalesce(repeated_record.duration_seconds, record.duration_seconds) as whole_duration,
        coalesce(repeated_record.uplink_octets, record.uplink_octets) as whole_uplink_octets,
        coalesce(repeated_record.downlink_octets, record.downlink_octets) as whole_downlink_octets,
        case
            when repeated_record.outcome is null then record.cause_for_closing
            else repeated_record.cause_for_closing
        end as whole_cause_for_closing,
        coalesce(repeated_record.partial_count, 1) as partial_count,
        coalesce(repeated_record.is_incomplete, false) as is_incomplete,
        piece.day_number,
        piece.begins_at_second,
        piece.ends_at_second,
        piece.whole_seconds
    from record
    inner join mediated_file
        on record._file_id = mediated_file.file_id
    left join repeated_record
        on record._file_id = repeated_record._file_id
        and record._record_number = repeated_record._record_number
    left join piece
        on record._file_id = piece._file_id
        and record._record_number = piece._record_number
    where record.reject_reason is null
        and record.filter_reason is null
        and coalesce(repeated_record.outcome, 'standard') = 'standard'

),

final as (

    select
        cast(
            case
                when coalesce(day_number, 0) = 0 then call_usage_id
                else cast({{ hash_key(['call_usage_id', 'day_number']) }} as {{ key_type() }})
            end as {{ key_type() }}
        ) as usage_id,
        service,
        direction,
        served_msisdn,
        served_imsi,
        served_imei,
        other_party,
        cast(
            case
                when other_party is null then 'none'
                when is_short_code then 'short_code'
                else 'e164'
            end as {{ dbt.type_string() }}
        ) as other_party_type,
        cast(
            case
                when day_number is null then started_at
                else started_at + begins_at_second * interval '1 second'
            end as timestamp
        ) as started_at,
        utc_offset_minutes,
        cast(
            case when day_number is null then whole_duration
                else ends_at_second - begins_at_second
            end as bigint
        ) as duration_seconds,
        {%- for octets in ['uplink_octets', 'downlink_octets'] %}
        cast(
            case
                when day_number is null then whole_{{ octets }}
                else
                    {{ integer_divide(
                        'whole_' ~ octets ~ ' * ends_at_second', 'whole_seconds'
                    ) }}
                    - {{ integer_divide(
                        'whole_' ~ octets ~ ' * begins_at_second', 'whole_seconds'
                    ) }}
            end as bigint
        ) as {{ octets }},
        {%- endfor %}
        serving_plmn,
        case
            when serving_plmn in ('{{ var("own_plmns") | join("', '") }}') then province_code
        end as visited_province_code,
        cell_id,
        trunk_group_in,
        trunk_group_out,
        apn,
        rating_group,
        sp_id,
        content_id,
        cast(whole_cause_for_closing as integer) as cause_for_closing,
        cast(partial_count as integer) as partial_count,
        cast(is_incomplete as boolean) as is_incomplete,
        coalesce(day_number, 0) > 0 as is_continued,
        source_id,
        province_code,
        _file_id,
        _record_number,
        _batch_id,
        _loaded_at
    from whole

)

select * from final
