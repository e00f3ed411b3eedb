-- Grain: one file (file_id).
with

fct_file as (

    select * from {{ ref('mid__fct_file') }}

),

final as (

    select
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(file_name as {{ dbt.type_string() }}) as file_name,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(received_at as timestamp) as received_at,
        cast(raw_count as bigint) as raw_count,
        cast(standard_count as bigint) as standard_count,
        cast(merged_count as bigint) as merged_count,
        cast(duplicate_count as bigint) as duplicate_count,
        cast(rejected_count as bigint) as rejected_count,
        cast(filtered_count as bigint) as filtered_count,
        cast(is_late as boolean) as is_late,
        cast(has_count_mismatch as boolean) as has_count_mismatch
    from fct_file

)

select * from final
