-- Grain: one raw record (_file_id, _record_number), of every format.
-- Standardised, and judged when its file was last mediated: which call it is (part of), and why it
-- is rejected or filtered. A record that is rejected, or of a kind that is not rated, is of no call.
-- The rules are those of the moment the file was landed, or the record last corrected; the first
-- that is broken counts.
-- There are more rows here than anywhere else: what the records of a file have in common stands in
-- `mediation.mediated_file`, not in each of them.
{{ config(
    materialized='replaced_rows',
    replaced='rows_of_files_mediated_again',
    looked_up_by=['_file_id', 'call_key'],
    many_valued=['served_msisdn', 'served_imsi', 'served_imei', 'other_party'],
) }}

{#- Every check: what is wrong with a record that breaks it. The order is that of the macro. #}
{%- set broken = {
    'not_rated': 'judged.is_not_rated',
    'unknown_service': "judged.known_service = 'other' or judged.direction is null"
        ~ " or judged.direction not in ('mo', 'mt', 'forwarded')",
    'invalid_msisdn': 'not coalesce(length(judged.served_number) between 8 and 15, false)',
    'invalid_identity': 'judged.call_reference is null',
    'invalid_time': 'judged.started_at is null or judged.started_at > judged.received_at',
    'too_old': "judged.started_at"
        ~ " < judged.received_at - profile.too_old_limit * interval '1 day'",
    'invalid_duration': 'not coalesce('
        ~ 'judged.duration_seconds between 0 and profile.invalid_duration_limit,'
        ~ " judged.known_service in ('sms', 'mms', 'vas') and judged.is_read_whole)",
    'invalid_volume': 'not coalesce('
        ~ 'judged.uplink_octets between 0 and profile.invalid_volume_limit'
        ~ ' and judged.downlink_octets between 0 and profile.invalid_volume_limit, false)',
    'invalid_other_party': "judged.other_party is null and judged.direction <> 'mt'"
        ~ " and judged.known_service in ('voice', 'sms', 'mms')",
    'missing_imsi': 'judged.served_imsi is null',
    'missing_cell': 'judged.cell_id is null',
    'missing_plmn': 'judged.serving_plmn is null',
    'test_number': 'starts_with(judged.served_msisdn, profile.test_number_prefix)',
    'emergency': "judged.is_emergency and judged.known_service = 'voice'",
    'unanswered': "judged.known_service = 'voice' and judged.duration_seconds = 0"
        ~ ' and judged.partial_sequence = 0',
    'rated_elsewhere': 'judged.is_rated_elsewhere and coalesce('
        ~ 'judged.type_number <> profile.rated_elsewhere_limit, judged.type_number is null)',
} %}
with

work_file as (

    select * from {{ ref('mediation__work_file') }}
    where is_live

),

validation_profile as (

    select * from {{ ref('mediation__validation_profile') }}

),

record_type as (

    select * from {{ ref('record_type') }}

),

emergency_number as (

    select short_code from {{ ref('short_code') }} where kind = 'emergency'

),

decoded as (

    select * from {{ decoded_record('work_file') }} as decoded_record

),

judged as (

    select
        decoded._file_id,
        decoded._record_number,
        decoded.source_id,
        decoded.received_at,
        decoded.judged_as_of,
        decoded.decode_error,
        decoded._raw_record is null as is_read_whole,
        decoded.service,
        case decoded.service
            {%- for service in ['voice', 'sms', 'mms', 'data', 'vas'] %}
            when '{{ service }}' then '{{ service }}'
            {%- endfor %}
            else 'other'
        end as known_service,
        decoded.direction,
        decoded.served_number,
        coalesce(decoded.served_number, decoded.served_party) as served_msisdn,
        {{ e164('decoded.other_digits', 'decoded.country_code', 'decoded.area_code') }}
            as other_party,
        decoded.served_imsi,
        decoded.served_imei,
        {{ is_short_code('decoded.other_digits', 'decoded.area_code') }} as is_short_code,
        decoded.serving_plmn,
        decoded.is_split_at_midnight,
        decoded.cell_id,
        decoded.trunk_group_in,
        decoded.trunk_group_out,
        decoded.apn,
        decoded.rating_group,
        decoded.sp_id,
        decoded.content_id,
        decoded.utc_offset_minutes,
        decoded.started_at,
        decoded.duration_seconds,
        decoded.uplink_octets,
        decoded.downlink_octets,
        decoded.cause_for_closing,
        decoded.call_reference,
        decoded.partial_sequence,
        decoded.is_last_partial,
        record_type.record_type is not null and decoded.service is null as is_not_rated,
        record_type.record_type is not null and decoded.service is not null
            as is_rated_elsewhere,
        record_type.type_number,
        emergency_number.short_code is not null as is_emergency
    from decoded
    left join record_type
        on decoded.record_type = record_type.record_type
    -- A null finds nothing without a look, and most numbers are longer.
    left join emergency_number
        on case when length(decoded.other_digits) <= 8 then decoded.other_digits end
        = emergency_number.short_code

),

-- A rule is a bit, the first of the rules the lowest: what a record breaks is a number, and so are the
-- rules that reject, filter and warn. One look says that nothing is broken, as of most records.
profile as (

    select
        source_id,
        service,
        valid_from,
        valid_to,
        too_old_limit,
        invalid_duration_limit,
        invalid_volume_limit,
        rated_elsewhere_limit,
        cast(test_number_limit as {{ dbt.type_string() }}) as test_number_prefix,
        not_rated_rejects
        {%- for meaning in ['rejects', 'filters', 'warns'] %},
        {% for rule in validation_rules() -%}
            case when {{ rule }}_{{ meaning }} then {{ 2 ** loop.index0 }} else 0 end
            {%- if not loop.last %} + {% endif %}
        {% endfor -%}
        as {{ meaning }}
        {%- endfor %}
    from validation_profile

),

checked as (

    select
        judged.*,
        profile.rejects,
        profile.filters,
        profile.warns,
        judged.is_not_rated and not profile.not_rated_rejects as is_left_unjudged,
        {% for rule in validation_rules() -%}
            case when {{ broken[rule] }} then {{ 2 ** loop.index0 }} else 0 end
            {%- if not loop.last %} + {% endif %}
        {% endfor -%}
        as breaks
    from judged
    left join profile
        on judged.source_id = profile.source_id
        and judged.known_service = profile.service
        and judged.judged_as_of >= profile.valid_from
        and judged.judged_as_of < profile.valid_to

),

held as (

    select
        checked.*,
        case
            when decode_error is not null then decode_error
            when is_left_unjudged then null
            else {{ first_broken('breaks', 'rejects') }}
        end as reject_reason,
        {{ first_broken('breaks', 'filters') }} as filter_reason,
        {{ first_broken('breaks', 'warns') }} as warning_reason
    from checked

),

final as (

    select
        cast(held._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(held._record_number as integer) as _record_number,
        case
            when held.reject_reason is null and not held.is_not_rated then {{ call_key('held') }}
        end as call_key,
        cast(held.reject_reason as {{ dbt.type_string() }}) as reject_reason,
        cast(
            case when held.reject_reason is null then held.filter_reason end
            as {{ dbt.type_string() }}
        ) as filter_reason,
        cast(
            case when held.reject_reason is null then held.warning_reason end
            as {{ dbt.type_string() }}
        ) as warning_reason,
        cast(held.service as {{ dbt.type_string() }}) as service,
        cast(held.direction as {{ dbt.type_string() }}) as direction,
        cast(held.served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(held.served_imsi as {{ dbt.type_string() }}) as served_imsi,
        cast(held.served_imei as {{ dbt.type_string() }}) as served_imei,
        cast(held.other_party as {{ dbt.type_string() }}) as other_party,
        held.other_party is not null and held.is_short_code as is_short_code,
        cast(held.started_at as timestamp) as started_at,
        cast(held.utc_offset_minutes as integer) as utc_offset_minutes,
        cast(coalesce(held.duration_seconds, 0) as bigint) as duration_seconds,
        cast(coalesce(held.uplink_octets, 0) as bigint) as uplink_octets,
        cast(coalesce(held.downlink_octets, 0) as bigint) as downlink_octets,
        cast(held.serving_plmn as {{ dbt.type_string() }}) as serving_plmn,
        cast(held.cell_id as {{ dbt.type_string() }}) as cell_id,
        cast(held.trunk_group_in as {{ dbt.type_string() }}) as trunk_group_in,
        cast(held.trunk_group_out as {{ dbt.type_string() }}) as trunk_group_out,
        cast(held.apn as {{ dbt.type_string() }}) as apn,
        cast(held.rating_group as bigint) as rating_group,
        cast(held.sp_id as {{ dbt.type_string() }}) as sp_id,
        cast(held.content_id as {{ dbt.type_string() }}) as content_id,
        cast(held.cause_for_closing as integer) as cause_for_closing,
        cast(held.partial_sequence as integer) as partial_sequence,
        cast(held.is_last_partial as boolean) as is_last_partial,
        cast(held.is_split_at_midnight as boolean) as is_split_at_midnight
    from held

)

select * from final
