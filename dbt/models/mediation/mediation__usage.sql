-- Grain: one usage (usage_id): a call, a message or a data session that happened.
-- The standard records; a long call with its parts added up, from the start of its first part to
-- the cause its last part was closed for. Usage with several rating groups is split into one of each,
-- with its octets; the seconds, and the identity, are those of the first group of the first part, which
-- no later part changes. Usage of a source that demands it is split at local midnight; the octets go
-- with the seconds. The pieces add up to the whole.
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
        _file_id, _record_number, duration_seconds, rating_group, rating_groups,
        case
            when is_split_at_midnight
                then started_at + utc_offset_minutes * interval '1 minute'
        end as started_local
    from {{ ref('mediation__record') }}
    where is_split_at_midnight
        or rating_groups is not null

),

call_to_split as (

    select _file_id, _record_number, duration_seconds, rating_groups, outcome
    from {{ ref('mediation__repeated_record') }}

),

-- Sessions whose parts have a rating group each: no record has several, the session has.
session_of_several as (

    select _file_id, _record_number, duration_seconds, rating_groups
    from {{ ref('mediation__repeated_record') }}
    where rating_groups is not null
        and outcome = 'standard'

),

record_of_one as (

    select _file_id, _record_number, rating_group from {{ ref('mediation__record') }}
    where rating_groups is null
        and not is_split_at_midnight

),

splittable as (

    select
        record_to_split._file_id,
        record_to_split._record_number,
        coalesce(call_to_split.duration_seconds, record_to_split.duration_seconds)
            as duration_seconds,
        case
            when call_to_split.outcome is null then record_to_split.rating_groups
            else call_to_split.rating_groups
        end as rating_groups,
        coalesce(
            cast(record_to_split.rating_group as {{ dbt.type_string() }}),
            split_part(record_to_split.rating_groups, ':', 1),
            ''
        ) as first_group,
        record_to_split.started_local
    from record_to_split
    left join call_to_split
        on record_to_split._file_id = call_to_split._file_id
        and record_to_split._record_number = call_to_split._record_number

    union all

    select
        session_of_several._file_id,
        session_of_several._record_number,
        session_of_several.duration_seconds,
        session_of_several.rating_groups,
        coalesce(cast(record_of_one.rating_group as {{ dbt.type_string() }}), '') as first_group,
        cast(null as timestamp) as started_local
    from session_of_several
    inner join record_of_one
        on session_of_several._file_id = record_of_one._file_id
        and session_of_several._record_number = record_of_one._record_number

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

to_split as (

    select * from measured
    where rating_groups is not null
        or duration_seconds > seconds_to_midnight

),

-- Of usage that goes past midnight the seconds between which it is in each day (the first: from 0); no
-- day of other usage.
daily as (

    select
        to_split._file_id,
        to_split._record_number,
        to_split.rating_groups,
        to_split.first_group,
        to_split.duration_seconds as whole_seconds,
        day.number as day_number,
        case
            when day.number = 0 then 0
            else to_split.seconds_to_midnight + (day.number - 1) * 86400
        end as begins_at_second,
        least(
            to_split.duration_seconds,
            to_split.seconds_to_midnight + day.number * 86400
        ) as ends_at_second
    from to_split
    left join {{ numbers(2) }} as day
        on to_split.duration_seconds > to_split.seconds_to_midnight
        and to_split.duration_seconds
        > to_split.seconds_to_midnight + (day.number - 1) * 86400

),

piece as (

    select
        daily_by_group.*,
        case
            when {{ dbt.position("';' || first_group || ':'", "';' || rating_groups") }} > 0
                then coalesce(cast(group_number as {{ dbt.type_string() }}), '') = first_group
            else group_place = 1
        end as is_first_group
    from {{ by_rating_group('daily') }} as daily_by_group

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
        coalesce(
            piece.group_uplink_octets, repeated_record.uplink_octets, record.uplink_octets
        ) as whole_uplink_octets,
        coalesce(
            piece.group_downlink_octets, repeated_record.downlink_octets, record.downlink_octets
        ) as whole_downlink_octets,
        case
            when repeated_record.outcome is null then record.cause_for_closing
            else repeated_record.cause_for_closing
        end as whole_cause_for_closing,
        coalesce(repeated_record.partial_count, 1) as partial_count,
        coalesce(repeated_record.is_incomplete, false) as is_incomplete,
        piece.rating_groups is not null as is_of_several_groups,
        coalesce(piece.is_first_group, true) as is_first_group,
        piece.group_number,
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
                when not is_first_group then cast(
                    {{ hash_key(
                        ['call_usage_id', 'coalesce(day_number, 0)', 'coalesce(group_number, -1)']
                    ) }} as {{ key_type() }}
                )
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
            case
                when not is_first_group then 0
                when day_number is null then whole_duration
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
        cast(
            case when is_of_several_groups then group_number else rating_group end as bigint
        ) as rating_group,
        sp_id,
        content_id,
        cast(whole_cause_for_closing as integer) as cause_for_closing,
        cast(partial_count as integer) as partial_count,
        cast(is_incomplete as boolean) as is_incomplete,
        coalesce(day_number, 0) > 0 or not is_first_group as is_continued,
        source_id,
        province_code,
        _file_id,
        _record_number,
        _batch_id,
        _loaded_at
    from whole

)

select * from final
