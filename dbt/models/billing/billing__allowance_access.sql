-- Grain: one bucket that one subscription may draw from (bucket_id, subscription_id).
-- Of scope `line` the holder may, of `pooled` every holder, of `shared` every line of the holder's
-- account. `draw_rank` is the pass in which it is drawn: by priority; of one priority, first what is
-- the line's own, then what expires first. Within an account every line goes by the same order, so
-- that all draws of a rank are known before the next begins.
with

allowance_bucket as (

    select * from {{ ref('billing__allowance_bucket') }}
    where cycle_id in {{ open_cycles() }}

),

product_holding as (

    select * from {{ ref('billing__product_holding') }}

),

allowance as (

    select * from {{ ref('ods__allowance') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

subscription as (

    select * from {{ ref('ods__subscription') }}

),

holder as (

    select distinct
        product_holding.account_id,
        product_holding.product_instance_id,
        product_holding.subscription_id,
        allowance.allowance_id
    from product_holding
    inner join allowance
        on product_holding.plan_version_id = allowance.plan_version_id

),

accessible as (

    select allowance_bucket.*, holder.subscription_id
    from allowance_bucket
    inner join holder
        on allowance_bucket.product_instance_id = holder.product_instance_id
        and allowance_bucket.allowance_id = holder.allowance_id
    where allowance_bucket.scope = 'line'

    union all

    select distinct allowance_bucket.*, holder.subscription_id
    from allowance_bucket
    inner join holder
        on allowance_bucket.account_id = holder.account_id
        and allowance_bucket.allowance_id = holder.allowance_id
    where allowance_bucket.scope = 'pooled'

    union all

    select allowance_bucket.*, subscription.subscription_id
    from allowance_bucket
    inner join subscription
        on allowance_bucket.account_id = subscription.account_id
    where allowance_bucket.scope = 'shared'

),

-- Buckets of one priority that the same line may draw from need an order among them.
tied as (

    select
        accessible.*,
        case when scope = 'line' then 0 else 1 end as scope_order,
        case
            when scope = 'line' then row_number() over (
                partition by subscription_id, cycle_id, priority, scope
                order by valid_to, origin_cycle_id, allowance_id, bucket_id
            )
            else dense_rank() over (
                partition by account_id, cycle_id, priority, case when scope = 'line' then 0 else 1 end
                order by valid_to, origin_cycle_id, allowance_id, bucket_id
            )
        end as tie_number
    from accessible

),

final as (

    select
        tied.bucket_id,
        tied.subscription_id,
        {{ line_key('tied.subscription_id', 'tied.cycle_id') }} as line_key,
        tied.account_id,
        tied.allowance_id,
        tied.cycle_id,
        unit,
        quantity_basis,
        increment_micro,
        size_micro,
        -- What is valid from the first of the cycle also serves what came late for an earlier one.
        cast(
            case when tied.valid_from > billing_cycle.starts_at then tied.valid_from
                else cast('1900-01-01 00:00:00' as timestamp)
            end as timestamp
        ) as valid_from,
        tied.valid_to,
        cast(
            dense_rank() over (
                partition by account_id, tied.cycle_id, case when unit = 'money' then 1 else 0 end
                order by priority, scope_order, tie_number
            ) as integer
        ) as draw_rank
    from tied
    inner join billing_cycle
        on tied.cycle_id = billing_cycle.cycle_id

)

select * from final
