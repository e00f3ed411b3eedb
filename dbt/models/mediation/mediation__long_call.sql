-- Grain: one call or session that came in parts (usage_id).
-- Put together from the parts that have arrived and are neither rejected, duplicate nor filtered,
-- so the order of arrival does not matter. While parts are missing it waits; when the time-outs of all
-- that arrived have run out it is closed without them and flagged; if one comes after all, it is put
-- together again.
-- depends_on: {{ ref('mediation__touched_call') }}
{{ config(
    materialized='replaced_rows', replaced='rows_of_touched_calls', looked_up_by=['call_key']
) }}
with

call_record as (

    select * from {{ ref('mediation__call_record') }}
    where partial_sequence > 0
        and filter_reason is null
        and not is_duplicate

),

batch as (

    select * from {{ ref('ods__batch') }}
    where purpose = 'mediate' and ended_at is null

),

ordered as (

    select
        call_record.*,
        row_number() over (partition by usage_id order by partial_sequence) as part_number,
        count(*) over (partition by usage_id) as part_count,
        max(started_at + duration_seconds * interval '1 second') over (
            partition by usage_id order by partial_sequence
            rows between unbounded preceding and 1 preceding
        ) as ended_before
    from call_record

),

-- Parts of TAP are in order but not numbered one by one: none is missing before one that begins when
-- those before it ended, in whole seconds.
linked as (

    select
        ordered.*,
        case
            when format = 'tap3' and partial_sequence > 1
                then coalesce(started_at <= ended_before + interval '1 second', false)
            else partial_sequence = part_number
        end as is_next
    from ordered

),

assembled as (

    select
        usage_id,
        call_key,
        max(case when part_number = 1 then _file_id end) as _file_id,
        max(case when part_number = 1 then _record_number end) as _record_number,
        sum(duration_seconds) as duration_seconds,
        sum(uplink_octets) as uplink_octets,
        sum(downlink_octets) as downlink_octets,
        max(case when part_number = part_count then cause_for_closing end) as cause_for_closing,
        count(*) as partial_count,
        max(waited_until) as waited_until,
        bool_or(part_number = part_count and is_last_partial)
        and bool_and(is_next) as is_complete
    from linked
    group by usage_id, call_key

),

now_is as (

    select max(started_at) as begun_at from batch

),

final as (

    select
        cast(assembled.usage_id as {{ key_type() }}) as usage_id,
        cast(assembled.call_key as {{ key_type() }}) as call_key,
        cast(assembled._file_id as {{ dbt.type_string() }}) as _file_id,
        cast(assembled._record_number as integer) as _record_number,
        cast(assembled.duration_seconds as bigint) as duration_seconds,
        cast(assembled.uplink_octets as bigint) as uplink_octets,
        cast(assembled.downlink_octets as bigint) as downlink_octets,
        cast(assembled.cause_for_closing as integer) as cause_for_closing,
        cast(assembled.partial_count as integer) as partial_count,
        cast(
            case
                when assembled.is_complete then 'complete'
                when assembled.waited_until > now_is.begun_at then 'waiting'
                else 'timed_out'
            end as {{ dbt.type_string() }}
        ) as state
    from assembled
    cross join now_is

)

select * from final
