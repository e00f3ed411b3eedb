-- Grain: one batch of files that were landed, or mediated, together (batch_id).
with

batch as (

    select * from {{ source('raw', 'control_batch') }}

),

final as (

    select
        cast(batch_id as {{ dbt.type_string() }}) as batch_id,
        cast(purpose as {{ dbt.type_string() }}) as purpose,
        {{ utc_timestamp('started_at') }} as started_at,
        {{ utc_timestamp('ended_at') }} as ended_at,
        cast(record_count as bigint) as record_count,
        cast(_loaded_at as timestamp) as _loaded_at
    from batch

)

select * from final
