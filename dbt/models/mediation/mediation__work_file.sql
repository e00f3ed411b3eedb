-- Grain: one file that the mediation run in hand has taken up (file_id).
-- Files whose revision changed since they were last mediated: just landed, corrected, or rolled
-- back. A file that is no longer live leaves its rows and gets no new ones.
with

batch as (

    select * from {{ ref('ods__batch') }}
    where purpose = 'mediate' and ended_at is null

),

mediation_work as (

    select * from {{ ref('ods__mediation_work') }}

),

usage_file as (

    select * from {{ ref('ods__usage_file') }}

),

source as (

    select * from {{ ref('ods__source') }}

),

final as (

    select
        cast(usage_file.file_id as {{ dbt.type_string() }}) as file_id,
        cast(batch.batch_id as {{ dbt.type_string() }}) as mediation_batch_id,
        cast(batch.started_at as timestamp) as begun_at,
        cast(usage_file.batch_id as {{ dbt.type_string() }}) as land_batch_id,
        cast(mediation_work.is_again as boolean) as is_again,
        cast(mediation_work.is_changed as boolean) as is_changed,
        usage_file.status in ('landed', 'mediated') as is_live,
        cast(usage_file.source_id as {{ dbt.type_string() }}) as source_id,
        cast(usage_file.format as {{ dbt.type_string() }}) as format,
        cast(usage_file.province_code as {{ dbt.type_string() }}) as province_code,
        cast(source.country_code as {{ dbt.type_string() }}) as country_code,
        cast(source.area_code as {{ dbt.type_string() }}) as area_code,
        cast(coalesce(source.split_at_midnight, false) as boolean) as is_split_at_midnight,
        cast(usage_file.received_at as timestamp) as received_at,
        cast(usage_file.landed_at as timestamp) as landed_at
    from batch
    inner join mediation_work
        on batch.batch_id = mediation_work.batch_id
    inner join usage_file
        on mediation_work.file_id = usage_file.file_id
    left join source
        on usage_file.source_id = source.source_id

)

select * from final
