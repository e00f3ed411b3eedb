-- Grain: one file (file_id).
with

usage_file as (

    select * from {{ ref('ods__usage_file') }}

),

file_balance as (

    select * from {{ ref('mediation__file_balance') }}

),

counted as (

    select
        usage_file.*,
        file_balance.raw_count,
        file_balance.standard_count,
        file_balance.merged_count,
        file_balance.duplicate_count,
        file_balance.rejected_count,
        file_balance.filtered_count,
        file_balance.waiting_count,
        file_balance.warned_count,
        file_balance.is_late,
        file_balance.has_count_mismatch
    from usage_file
    left join file_balance
        on usage_file.file_id = file_balance.file_id

),

final as (

    select
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(file_name as {{ dbt.type_string() }}) as file_name,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(size_bytes as bigint) as size_bytes,
        cast(created_at_source as timestamp) as created_at_source,
        cast(received_at as timestamp) as received_at,
        cast(landed_at as timestamp) as landed_at,
        cast(declared_record_count as bigint) as declared_record_count,
        cast(decoded_record_count as bigint) as decoded_record_count,
        cast(raw_count as bigint) as raw_count,
        cast(standard_count as bigint) as standard_count,
        cast(merged_count as bigint) as merged_count,
        cast(duplicate_count as bigint) as duplicate_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(filtered_count as bigint) as filtered_count,
        cast(waiting_count as bigint) as waiting_count,
        cast(warned_count as bigint) as warned_count,
        cast(is_late as boolean) as is_late,
        cast(has_count_mismatch as boolean) as has_count_mismatch
    from counted

)

select * from final
