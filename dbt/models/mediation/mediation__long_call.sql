-- Grain: one call or session that came in parts (usage_id).
-- Put together from the parts that have arrived and are neither rejected, duplicate nor filtered.
-- A call whose parts are not all there is put together at once and flagged; when the rest arrives
-- it is put together again, so the order of arrival does not matter.
with

record as (

    select * from {{ ref('mediation__record') }}
    where partial_sequence > 0
        and reject_reason is null
        and filter_reason is null
        and not is_duplicate

),

ordered as (

    select
        record.*,
        row_number() over (partition by usage_id order by partial_sequence) as part_number,
        count(*) over (partition by usage_id) as part_count
    from record

),

assembled as (

    select
        usage_id,
        max(case when part_number = 1 then _file_id end) as _file_id,
        max(case when part_number = 1 then _record_number end) as _record_number,
        sum(duration_seconds) as duration_seconds,
        sum(uplink_octets) as uplink_octets,
        sum(downlink_octets) as downlink_octets,
        max(case when part_number = part_count then cause_for_closing end) as cause_for_closing,
        count(*) as partial_count,
        min(partial_sequence) as first_sequence,
        max(partial_sequence) as last_sequence,
        bool_or(part_number = part_count and is_last_partial) as has_last_part
    from ordered
    group by usage_id

),

final as (

    select
        cast(usage_id as {{ dbt.type_string() }}) as usage_id,
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast(duration_seconds as bigint) as duration_seconds,
        cast(uplink_octets as bigint) as uplink_octets,
        cast(downlink_octets as bigint) as downlink_octets,
        cast(cause_for_closing as integer) as cause_for_closing,
        cast(partial_count as integer) as partial_count,
        not (has_last_part and first_sequence = 1 and last_sequence = partial_count)
            as is_incomplete
    from assembled

)

select * from final
