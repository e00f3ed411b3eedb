-- Grain: one billing cycle (cycle_id).
with

billing_cycle as (

    select * from {{ source('raw', 'billing_billing_cycle') }}

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        {{ utc_timestamp('starts_at') }} as starts_at,
        {{ utc_timestamp('ends_at') }} as ends_at,
        cast(state as {{ dbt.type_string() }}) as state,
        cast(_loaded_at as timestamp) as _loaded_at
    from billing_cycle

)

select * from final
