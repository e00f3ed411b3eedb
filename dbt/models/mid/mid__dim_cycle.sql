-- Grain: one billing cycle (cycle_id).
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

dated as (

    select
        billing_cycle.*,
        cast({{ civil_time('starts_at') }} as date) as first_date,
        cast({{ civil_time("ends_at - interval '1 microsecond'") }} as date) as last_date
    from billing_cycle

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(state as {{ dbt.type_string() }}) as state,
        cast(starts_at as timestamp) as starts_at,
        cast(ends_at as timestamp) as ends_at,
        cast(first_date as date) as first_date,
        cast(last_date as date) as last_date
    from dated

)

select * from final
