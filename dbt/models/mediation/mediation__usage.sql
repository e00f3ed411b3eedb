-- Grain: one usage (usage_id): a call, a message or a data session that happened.
-- The standard records; a long call with its parts added up, from the start of its first part to
-- the cause its last part was closed for.
with

record as (

    select * from {{ ref('mediation__record') }}
    where reject_reason is null
        and filter_reason is null
        and not is_duplicate

),

long_call as (

    select * from {{ ref('mediation__long_call') }}

),

standard as (

    select
        record.usage_id,
        record.service,
        record.direction,
        record.served_msisdn,
        record.served_imsi,
        record.served_imei,
        record.other_party,
        record.other_party_type,
        record.started_at,
        record.utc_offset_minutes,
        coalesce(long_call.duration_seconds, record.duration_seconds) as duration_seconds,
        coalesce(long_call.uplink_octets, record.uplink_octets) as uplink_octets,
        coalesce(long_call.downlink_octets, record.downlink_octets) as downlink_octets,
        record.serving_plmn,
        case
            when record.serving_plmn in ('{{ var("own_plmns") | join("', '") }}')
                then record.province_code
        end as visited_province_code,
        record.cell_id,
        record.trunk_group_in,
        record.trunk_group_out,
        record.apn,
        record.rating_group,
        case
            when long_call.usage_id is null then record.cause_for_closing
            else long_call.cause_for_closing
        end as cause_for_closing,
        coalesce(long_call.partial_count, 1) as partial_count,
        coalesce(long_call.is_incomplete, false) as is_incomplete,
        record.source_id,
        record.province_code,
        record._file_id,
        record._record_number,
        record._batch_id,
        record._loaded_at
    from record
    left join long_call
        on record.usage_id = long_call.usage_id
    where record.partial_sequence = 0
        or (
            record._file_id = long_call._file_id
            and record._record_number = long_call._record_number
        )

),

final as (

    select
        cast(usage_id as {{ dbt.type_string() }}) as usage_id,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(served_imsi as {{ dbt.type_string() }}) as served_imsi,
        cast(served_imei as {{ dbt.type_string() }}) as served_imei,
        cast(other_party as {{ dbt.type_string() }}) as other_party,
        cast(other_party_type as {{ dbt.type_string() }}) as other_party_type,
        cast(started_at as timestamp) as started_at,
        cast(utc_offset_minutes as integer) as utc_offset_minutes,
        cast(duration_seconds as bigint) as duration_seconds,
        cast(uplink_octets as bigint) as uplink_octets,
        cast(downlink_octets as bigint) as downlink_octets,
        cast(serving_plmn as {{ dbt.type_string() }}) as serving_plmn,
        cast(visited_province_code as {{ dbt.type_string() }}) as visited_province_code,
        cast(cell_id as {{ dbt.type_string() }}) as cell_id,
        cast(trunk_group_in as {{ dbt.type_string() }}) as trunk_group_in,
        cast(trunk_group_out as {{ dbt.type_string() }}) as trunk_group_out,
        cast(apn as {{ dbt.type_string() }}) as apn,
        cast(rating_group as bigint) as rating_group,
        cast(null as {{ dbt.type_string() }}) as sp_id,
        cast(null as {{ dbt.type_string() }}) as content_id,
        cast(cause_for_closing as integer) as cause_for_closing,
        cast(partial_count as integer) as partial_count,
        cast(is_incomplete as boolean) as is_incomplete,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_file_id as {{ dbt.type_string() }}) as _file_id,
        cast(_record_number as integer) as _record_number,
        cast(_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from standard

)

select * from final
