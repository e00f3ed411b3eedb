{{ config(materialized='incremental') }}

-- Grain: one usage and one allowance (usage_id, allowance_id) that covers its charge class.
-- Step 4 of rating: in event order within the pool (subscription, allowance, cycle) each usage draws
-- what the usage before it has left. A running sum tells both.
with

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}
    where cycle_id in {{ open_cycles() }}

),

allowance as (

    select * from {{ ref('ods__allowance') }}

),

allowance_coverage as (

    select * from {{ ref('ods__allowance_coverage') }}

),

eligible as (

    select
        guided_usage.usage_id,
        guided_usage.cycle_id,
        guided_usage.subscription_id,
        guided_usage.started_at,
        allowance.allowance_id,
        allowance.size_quantity,
        case allowance.quantity_basis
            when 'rounded'
                then {{ round_up_to('guided_usage.quantity', 'allowance.rounding_increment') }}
            else guided_usage.quantity
        end as wanted_quantity
    from guided_usage
    inner join allowance
        on guided_usage.plan_version_id = allowance.plan_version_id
    inner join allowance_coverage
        on allowance.allowance_id = allowance_coverage.allowance_id
        and guided_usage.charge_class = allowance_coverage.charge_class

),

queued as (

    select
        eligible.*,
        sum(wanted_quantity) over (
            partition by subscription_id, allowance_id, cycle_id
            order by started_at, usage_id
            rows between unbounded preceding and current row
        ) - wanted_quantity as wanted_before_quantity
    from eligible

),

final as (

    select
        usage_id,
        allowance_id,
        cycle_id,
        subscription_id,
        cast(wanted_quantity as bigint) as wanted_quantity,
        cast(
            greatest(0, least(wanted_quantity, size_quantity - wanted_before_quantity)) as bigint
        ) as drawn_quantity
    from queued

)

select * from final
