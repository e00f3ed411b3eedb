-- Grain: one raw record (_file_id, _record_number), of every format.
-- Normalised and checked: why it is rejected, whether it is a duplicate, why it is filtered, and
-- which usage it is (part of). The first reason that applies counts.
--
-- Duplicates: of the records of one identity, the first to arrive (file received, file id, record
-- number) is the original. An identity used again more than `duplicate_window_days` after its last
-- use is a new one: network elements count their call references round and round.
{%- set test_number_prefix = var('test_number_prefix', '8617090000') %}
with

switch_record as (

    select * from {{ ref('mediation__switch_record') }}

),

packet_record as (

    select * from {{ ref('mediation__packet_record') }}

),

roaming_record as (

    select * from {{ ref('mediation__roaming_record') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}

),

short_code as (

    select * from {{ ref('short_code') }}

),

-- The three models have the same columns in the same order.
every_record as (

    select * from switch_record
    union all
    select * from packet_record
    union all
    select * from roaming_record

),

located as (

    select
        every_record.*,
        usage_file.received_at,
        usage_file.province_code,
        every_record.started_local
        - every_record.utc_offset_minutes * interval '1 minute' as started_at,
        case
            when {{ matches('every_record.dialled_party', '[+]?[0-9]+') }}
                then every_record.dialled_party
        end as dialled_digits
    from every_record
    left join usage_file
        on every_record._file_id = usage_file.file_id

),

-- E.164 digits of the other party: +…, 00…, 0 + area code, a mobile number, a 400 or 800 number.
-- Short codes, service numbers and message ports stay as they were dialled.
numbered as (

    select
        located.*,
        case
            when dialled_digits is null then null
            when substr(dialled_digits, 1, 1) = '+' then substr(dialled_digits, 2)
            when substr(dialled_digits, 1, 2) = '00' then substr(dialled_digits, 3)
            when substr(dialled_digits, 1, 1) = '0' then '86' || substr(dialled_digits, 2)
            when length(dialled_digits) = 11 and substr(dialled_digits, 1, 2) between '13' and '19'
                then '86' || dialled_digits
            when length(dialled_digits) = 10 and substr(dialled_digits, 1, 3) in ('400', '800')
                then '86' || dialled_digits
            else dialled_digits
        end as other_party,
        case
            when dialled_digits is null then 'none'
            when substr(dialled_digits, 1, 1) in ('+', '0') then 'e164'
            when length(dialled_digits) <= 8 then 'short_code'
            when length(dialled_digits) = 11 and substr(dialled_digits, 1, 2) between '13' and '19'
                then 'e164'
            when substr(dialled_digits, 1, 2) in ('10', '11', '12', '95', '96') then 'short_code'
            else 'e164'
        end as other_party_type
    from located

),

judged as (

    select
        numbered.*,
        case
            when numbered.decode_error is not null then numbered.decode_error
            when numbered.service is null or numbered.direction is null then 'unknown_service'
            when not coalesce({{ matches('numbered.served_msisdn', '[0-9]{8,15}') }}, false)
                then 'invalid_msisdn'
            when numbered.started_at is null or numbered.started_at > numbered.received_at
                then 'invalid_time'
            when not coalesce(numbered.duration_seconds between 0 and 86400, false)
                then 'invalid_duration'
            when not coalesce(numbered.uplink_octets >= 0 and numbered.downlink_octets >= 0, false)
                then 'invalid_volume'
            when
                numbered.service <> 'data' and numbered.direction = 'mo'
                and numbered.other_party is null
                then 'invalid_other_party'
        end as reject_reason,
        case
            when numbered.served_msisdn like '{{ test_number_prefix }}%' then 'test_number'
            when numbered.service = 'voice' and short_code.kind = 'emergency' then 'emergency'
            when
                numbered.service = 'voice' and numbered.duration_seconds = 0
                and numbered.partial_sequence = 0
                then 'unanswered'
        end as filter_reason
    from numbered
    left join short_code
        on numbered.other_party = short_code.short_code
        and numbered.other_party_type = 'short_code'

),

spaced as (

    select
        judged.*,
        case when reject_reason is null then call_identity end as live_identity,
        lag(started_at) over (
            partition by case when reject_reason is null then call_identity end
            order by
                started_at, received_at, {{ byte_order('_file_id') }}, _record_number
        ) as previous_started_at
    from judged

),

counted as (

    select
        spaced.*,
        sum(
            case
                when
                    started_at - previous_started_at
                    > {{ var('duplicate_window_days', 90) }} * interval '1 day'
                    then 1
                else 0
            end
        ) over (
            partition by live_identity
            order by
                started_at, received_at, {{ byte_order('_file_id') }}, _record_number
            rows between unbounded preceding and current row
        ) as reuse_number
    from spaced

),

identified as (

    select
        counted.*,
        {{ hash_key([
            'call_identity', 'partial_sequence', 'case when reuse_number > 0 then reuse_number end'
        ]) }} as identity_key,
        case
            when partial_sequence > 0 then
                {{ hash_key([
                    'call_identity', 'case when reuse_number > 0 then reuse_number end'
                ]) }}
        end as long_call_key
    from counted

),

arranged as (

    select
        identified.*,
        row_number() over (
            partition by identity_key, live_identity
            order by
                received_at, {{ byte_order('_file_id') }}, _record_number
        ) as arrival_number
    from identified

),

final as (

    select
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast(record_format as {{ dbt.type_string() }}) as record_format,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(received_at as timestamp) as received_at,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(served_imsi as {{ dbt.type_string() }}) as served_imsi,
        cast(served_imei as {{ dbt.type_string() }}) as served_imei,
        cast(dialled_party as {{ dbt.type_string() }}) as dialled_party,
        cast(other_party as {{ dbt.type_string() }}) as other_party,
        cast(other_party_type as {{ dbt.type_string() }}) as other_party_type,
        cast(started_at as timestamp) as started_at,
        cast(utc_offset_minutes as integer) as utc_offset_minutes,
        cast(duration_seconds as bigint) as duration_seconds,
        cast(uplink_octets as bigint) as uplink_octets,
        cast(downlink_octets as bigint) as downlink_octets,
        cast(serving_plmn as {{ dbt.type_string() }}) as serving_plmn,
        cast(cell_id as {{ dbt.type_string() }}) as cell_id,
        cast(trunk_group_in as {{ dbt.type_string() }}) as trunk_group_in,
        cast(trunk_group_out as {{ dbt.type_string() }}) as trunk_group_out,
        cast(apn as {{ dbt.type_string() }}) as apn,
        cast(rating_group as bigint) as rating_group,
        cast(cause_for_closing as integer) as cause_for_closing,
        cast(partial_sequence as integer) as partial_sequence,
        cast(is_last_partial as boolean) as is_last_partial,
        cast(identity_key as {{ dbt.type_string() }}) as identity_key,
        cast(reject_reason as {{ dbt.type_string() }}) as reject_reason,
        cast(decode_detail as {{ dbt.type_string() }}) as decode_detail,
        cast(
            case when reject_reason is not null then raw_record end as {{ dbt.type_string() }}
        ) as raw_record,
        reject_reason is null and arrival_number > 1 as is_duplicate,
        cast(
            case when reject_reason is null then filter_reason end as {{ dbt.type_string() }}
        ) as filter_reason,
        cast(
            case when reject_reason is null then coalesce(long_call_key, identity_key) end
            as {{ dbt.type_string() }}
        ) as usage_id,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from arranged

)

select * from final
