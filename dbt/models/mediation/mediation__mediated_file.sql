-- Grain: one file whose records stand in `mediation.record` (file_id).
-- What its records have in common, as it was when they were last judged: said once here, not again
-- with every record.
{{ config(materialized='replaced_rows', replaced='files_in_hand') }}
with

work_file as (

    select * from {{ ref('mediation__work_file') }}
    where is_live

),

final as (

    select
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(mediation_batch_id as {{ dbt.type_string() }}) as _batch_id,
        cast(begun_at as timestamp) as _loaded_at
    from work_file

)

select * from final
