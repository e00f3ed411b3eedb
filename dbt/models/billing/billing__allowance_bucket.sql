{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles') }}

-- Grain: one bucket of free units in one cycle (bucket_id).
-- An allowance makes a bucket for each product instance that grants it; of scope `pooled` one for all
-- instances of an account, as large as all of them together. What was left of one that rolls over
-- is a bucket of its own for as many months as the allowance says, if it is still granted.
with

every_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

billing_cycle as (

    select * from every_cycle where state not in ('approved', 'final')

),

former_allowance as (

    select * from {{ former_allowances() }} as former

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
        coalesce(allowance.rollover_months, 0) as rollover_months,
        {{ quantity_micro('allowance.rounding_increment') }} as increment_micro,
        billing_cycle.cycle_id,
        product_holding.account_id,
        product_holding.product_instance_id,
        greatest(product_holding.held_from, billing_cycle.starts_at) as valid_from,
        least(product_holding.held_to, billing_cycle.ends_at) as valid_to,
        -- Half of it for who joins on the 16th or later, if the version says so.
        {{ quantity_micro('allowance.size_quantity') }} as full_micro,
        case
            when product_holding.first_month_rule = 'half_after_mid'
                and product_holding.joined_at >= billing_cycle.starts_at
                then extract(
                    day from
                    {{ civil_time('product_holding.joined_at', 'product_holding.time_zone') }}
                ) >= 16
            else false
        end as is_half
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

bucket as (

    select
        bucket_id,
        allowance_id,
        cycle_id,
        cycle_id as origin_cycle_id,
        account_id,
        case when scope <> 'pooled' then min(product_instance_id) end as product_instance_id,
        unit,
        priority,
        scope,
        quantity_basis,
        rollover_months,
        increment_micro,
        sum(size_micro) as size_micro,
        min(valid_from) as valid_from,
        max(valid_to) as valid_to
    from sized
    group by
        bucket_id, allowance_id, cycle_id, account_id, unit, priority, scope, quantity_basis,
        rollover_months, increment_micro

),

rolled_over as (

    select
        bucket.bucket_id || '/' || former_allowance.origin_cycle_id as bucket_id,
        bucket.allowance_id,
        bucket.cycle_id,
        former_allowance.origin_cycle_id,
        bucket.account_id,
        bucket.product_instance_id,
        bucket.unit,
        bucket.priority,
        bucket.scope,
        bucket.quantity_basis,
        bucket.increment_micro,
        former_allowance.left_micro as size_micro,
        bucket.valid_from,
        bucket.valid_to
    from bucket
    inner join every_cycle as this_cycle
        on bucket.cycle_id = this_cycle.cycle_id
    inner join every_cycle as former_cycle
        on this_cycle.starts_at = former_cycle.ends_at
    inner join former_allowance
        on former_cycle.cycle_id = former_allowance.cycle_id
        and bucket.allowance_id = former_allowance.allowance_id
        and bucket.account_id = former_allowance.account_id
        and coalesce(bucket.product_instance_id, '')
        = coalesce(former_allowance.product_instance_id, '')
    where former_allowance.left_micro > 0
        and {{ month_number('bucket.cycle_id') }}
        - {{ month_number('former_allowance.origin_cycle_id') }} <= bucket.rollover_months

),

{%- set columns = [
    'bucket_id', 'allowance_id', 'cycle_id', 'origin_cycle_id', 'account_id', 'product_instance_id',
    'unit', 'priority', 'scope', 'quantity_basis', 'increment_micro', 'size_micro', 'valid_from',
    'valid_to',
] %}

granted_or_left as (

    select {{ columns | join(', ') }} from bucket

    union all

    select {{ columns | join(', ') }} from rolled_over

),

final as (

    select
        bucket_id,
        allowance_id,
        cycle_id,
        origin_cycle_id,
        account_id,
        product_instance_id,
        unit,
        priority,
        scope,
        quantity_basis,
        increment_micro,
        cast(size_micro as bigint) as size_micro,
        cast(valid_from as timestamp) as valid_from,
        cast(valid_to as timestamp) as valid_to
    from granted_or_left

)

select * from final
