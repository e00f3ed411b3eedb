{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one line in one cycle (line_key): who used and who pays, as it was while the cycle was open.
-- What rating says of millions of usages of a line it says by this key, and the rest here once.
with

subscription as (

    select * from {{ ref('ods__subscription') }}

),

account as (

    select * from {{ ref('ods__account') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where cycle_id in {{ open_cycles() }}

),

final as (

    select
        {{ line_key('subscription.subscription_id', 'billing_cycle.cycle_id') }} as line_key,
        billing_cycle.cycle_id,
        subscription.subscription_id,
        subscription.account_id,
        account.customer_id,
        subscription.province_code,
        cast(coalesce(account.time_zone, {{ project_zone() }}) as {{ dbt.type_string() }})
            as time_zone
    from subscription
    inner join account
        on subscription.account_id = account.account_id
    cross join billing_cycle
    where subscription.valid_from < billing_cycle.ends_at

)

select * from final
