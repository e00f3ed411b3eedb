-- Grain: one correction of a record (correction_id).
-- Values that cannot be read as what they are for are null: the field stays as it was decoded.
with

correction as (

    select * from {{ source('raw', 'control_correction') }}

),

ranked as (

    select
        correction.*,
        row_number() over (
            partition by file_id, land_batch_id, record_number
            order by corrected_at desc, {{ byte_order('correction_id') }} desc
        ) as recency
    from correction

),

final as (

    select
        cast(correction_id as {{ dbt.type_string() }}) as correction_id,
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(land_batch_id as {{ dbt.type_string() }}) as land_batch_id,
        cast(record_number as integer) as record_number,
        {{ utc_timestamp('corrected_at') }} as corrected_at,
        recency = 1 as is_latest,
        coalesce(
            service, direction, served_msisdn, served_imsi, other_party, started_local,
            utc_offset_minutes, duration_seconds, uplink_octets, downlink_octets, serving_plmn,
            call_reference
        ) is not null as has_override,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(served_msisdn as {{ dbt.type_string() }}) as served_msisdn,
        cast(served_imsi as {{ dbt.type_string() }}) as served_imsi,
        cast(other_party as {{ dbt.type_string() }}) as other_party,
        cast({{ local_timestamp('started_local') }} as timestamp) as started_local,
        cast(
            case
                when {{ matches('utc_offset_minutes', '-?[0-9]{1,3}') }} then utc_offset_minutes
            end as integer
        ) as utc_offset_minutes,
        cast({{ whole_number('duration_seconds') }} as bigint) as duration_seconds,
        cast({{ whole_number('uplink_octets') }} as bigint) as uplink_octets,
        cast({{ whole_number('downlink_octets') }} as bigint) as downlink_octets,
        cast(serving_plmn as {{ dbt.type_string() }}) as serving_plmn,
        cast(call_reference as {{ dbt.type_string() }}) as call_reference,
        cast(_loaded_at as timestamp) as _loaded_at
    from ranked

)

select * from final
