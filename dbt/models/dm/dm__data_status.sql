-- Grain: one cycle (cycle_id).
with

dim_cycle as (

    select * from {{ ref('mid__dim_cycle') }}

),

fct_usage as (

    select * from {{ ref('mid__fct_usage') }}

),

seen as (

    select
        cycle_id,
        max(started_at) as data_as_of,
        count(*) as usage_count,
        count(distinct _file_id) as file_count
    from fct_usage
    where cycle_id is not null
    group by cycle_id

),

stated as (

    select
        dim_cycle.cycle_id,
        seen.data_as_of,
        coalesce(seen.usage_count, 0) as usage_count,
        coalesce(seen.file_count, 0) as file_count
    from dim_cycle
    left join seen
        on dim_cycle.cycle_id = seen.cycle_id

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(data_as_of as timestamp) as data_as_of,
        cast(usage_count as bigint) as usage_count,
        cast(file_count as bigint) as file_count
    from stated

)

select * from final
