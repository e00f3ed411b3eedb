-- Grain: one file received (file_id).
with

usage_file as (

    select * from {{ source('raw', 'control_usage_file') }}

),

final as (

    select
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(file_name as {{ dbt.type_string() }}) as file_name,
        cast(format as {{ dbt.type_string() }}) as format,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(sha256 as {{ dbt.type_string() }}) as sha256,
        cast(size_bytes as bigint) as size_bytes,
        cast(sequence_number as bigint) as sequence_number,
        cast(sequence_date as date) as sequence_date,
        {{ utc_timestamp('created_at_source') }} as created_at_source,
        {{ utc_timestamp('received_at') }} as received_at,
        {{ utc_timestamp('collected_at') }} as collected_at,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(status_reason_code as {{ dbt.type_string() }}) as status_reason_code,
        cast(duplicate_of_file_id as {{ dbt.type_string() }}) as duplicate_of_file_id,
        cast(declared_record_count as bigint) as declared_record_count,
        cast(decoded_record_count as bigint) as decoded_record_count,
        cast(batch_id as {{ dbt.type_string() }}) as batch_id,
        {{ utc_timestamp('landed_at') }} as landed_at,
        cast(duplicate_window_days as integer) as duplicate_window_days,
        cast(long_call_timeout_hours as integer) as long_call_timeout_hours,
        cast(_loaded_at as timestamp) as _loaded_at
    from usage_file

)

select * from final
