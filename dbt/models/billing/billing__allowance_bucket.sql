{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one bucket of free units in one cycle (bucket_id).
-- An allowance makes a bucket for each product instance that grants it; of scope `pooled` one for all
-- instances of an account, as large as all of them together.
with

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}
    where state not in ('approved', 'final')

),

product_holding as (

    select * from {{ ref('billing__product_holding') }}

),

allowance as (

    select * from {{ ref('ods__allowance') }}

),

granted as (

    select
        allowance.allowance_id,
        allowance.unit,
        allowance.priority,
        allowance.scope,
        allowance.quantity_basis,
        {{ quantity_micro('allowance.rounding_increment') }} as increment_micro,
        billing_cycle.cycle_id,
        product_holding.account_id,
        product_holding.product_instance_id,
        greatest(product_holding.held_from, billing_cycle.starts_at) as valid_from,
        least(product_holding.held_to, billing_cycle.ends_at) as valid_to,
        -- Half of it for who joins on the 16th or later, if the version says so.
        {{ quantity_micro('allowance.size_quantity') }} as full_micro,
        product_holding.first_month_rule = 'half_after_mid'
        and product_holding.joined_at >= billing_cycle.starts_at
        and extract(
            day from {{ civil_time('product_holding.joined_at', 'product_holding.time_zone') }}
        ) >= 16 as is_half
    from product_holding
    inner join allowance
        on product_holding.plan_version_id = allowance.plan_version_id
    inner join billing_cycle
        on product_holding.held_from < billing_cycle.ends_at
        and product_holding.held_to > billing_cycle.starts_at

),

sized as (

    select
        granted.*,
        case when is_half then {{ bigint_divide('full_micro', '2') }} else full_micro end
            as size_micro,
        case scope
            when 'pooled' then account_id || '/' || allowance_id || '/' || cycle_id
            else product_instance_id || '/' || allowance_id || '/' || cycle_id
        end as bucket_id
    from granted

),

final as (

    select
        bucket_id,
        allowance_id,
        cycle_id,
        account_id,
        case when scope <> 'pooled' then min(product_instance_id) end as product_instance_id,
        unit,
        priority,
        scope,
        quantity_basis,
        increment_micro,
        cast(sum(size_micro) as bigint) as size_micro,
        cast(min(valid_from) as timestamp) as valid_from,
        cast(max(valid_to) as timestamp) as valid_to
    from sized
    group by
        bucket_id, allowance_id, cycle_id, account_id, unit, priority, scope, quantity_basis,
        increment_micro

)

select * from final
