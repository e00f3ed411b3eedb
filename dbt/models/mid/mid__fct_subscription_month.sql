-- Grain: one subscription and cycle (subscription_id, cycle_id).
-- As known at the cycle's end: what happens to the subscription later does not show.
with

dim_subscription as (

    select * from {{ ref('mid__dim_subscription') }}

),

dim_cycle as (

    select * from {{ ref('mid__dim_cycle') }}

),

product_instance as (

    select * from {{ ref('ods__product_instance') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

fct_subscription_day as (

    select * from {{ ref('mid__fct_subscription_day') }}

),

fct_bill_item as (

    select * from {{ ref('mid__fct_bill_item') }}

),

fct_usage as (

    select * from {{ ref('mid__fct_usage') }}

),

interconnect_entry as (

    select * from {{ ref('settlement__interconnect_entry') }}

),

lived as (

    select
        dim_subscription.subscription_id,
        dim_subscription.account_id,
        dim_subscription.customer_id,
        dim_subscription.province_code,
        dim_subscription.valid_from,
        dim_subscription.joined_date,
        dim_cycle.cycle_id,
        dim_cycle.starts_at,
        dim_cycle.last_date,
        coalesce(dim_subscription.valid_to < dim_cycle.ends_at, false) as is_leaving,
        case
            when dim_subscription.valid_to < dim_cycle.ends_at then dim_subscription.valid_to
            else dim_cycle.ends_at
        end as known_to,
        case
            when dim_subscription.valid_to < dim_cycle.ends_at then dim_subscription.left_date
        end as left_date
    from dim_subscription
    inner join dim_cycle
        on dim_subscription.valid_from < dim_cycle.ends_at
        and (
            dim_subscription.valid_to >= dim_cycle.starts_at
            or dim_subscription.valid_to is null
        )

),

plan as (

    select
        lived.subscription_id,
        lived.cycle_id,
        product_instance.offering_id,
        price_plan_version.monthly_fee_amount,
        row_number() over (
            partition by lived.subscription_id, lived.cycle_id
            order by
                product_instance.valid_from desc,
                product_instance.product_instance_id desc,
                price_plan_version.valid_from desc
        ) as recency
    from lived
    inner join product_instance
        on lived.subscription_id = product_instance.subscription_id
        and product_instance.role = 'plan'
        and product_instance.valid_from < lived.known_to
    inner join price_plan_version
        on product_instance.offering_id = price_plan_version.offering_id
        and price_plan_version.valid_from < lived.known_to

),

used as (

    select
        subscription_id,
        cycle_id,
        sum(voice_mo_seconds) as voice_mo_seconds,
        sum(voice_mt_seconds) as voice_mt_seconds,
        sum(sms_count) as sms_count,
        sum(data_octets) as data_octets,
        sum(usage_count) as usage_count
    from fct_subscription_day
    group by subscription_id, cycle_id

),

billed as (

    select
        subscription_id,
        cycle_id,
        sum(amount) as charge_amount
    from fct_bill_item
    where is_revenue
    group by subscription_id, cycle_id

),

settled as (

    select
        fct_usage.subscription_id,
        interconnect_entry.cycle_id,
        sum(
            case
                when interconnect_entry.direction = 'payable' then interconnect_entry.amount
                else 0
            end
        ) as settlement_cost_amount,
        sum(
            case
                when interconnect_entry.direction = 'receivable' then interconnect_entry.amount
                else 0
            end
        ) as settlement_income_amount
    from interconnect_entry
    inner join fct_usage
        on interconnect_entry.usage_id = fct_usage.usage_id
    where fct_usage.subscription_id is not null
    group by fct_usage.subscription_id, interconnect_entry.cycle_id

),

combined as (

    select
        lived.*,
        plan.offering_id,
        plan.monthly_fee_amount,
        {{ dbt.datediff('lived.joined_date', 'coalesce(lived.left_date, lived.last_date)', 'day') }}
            as tenure_days,
        coalesce(used.voice_mo_seconds, 0) as voice_mo_seconds,
        coalesce(used.voice_mt_seconds, 0) as voice_mt_seconds,
        coalesce(used.sms_count, 0) as sms_count,
        coalesce(used.data_octets, 0) as data_octets,
        coalesce(used.usage_count, 0) as usage_count,
        coalesce(billed.charge_amount, 0) as charge_amount,
        coalesce(settled.settlement_cost_amount, 0) as settlement_cost_amount,
        coalesce(settled.settlement_income_amount, 0) as settlement_income_amount
    from lived
    left join plan
        on lived.subscription_id = plan.subscription_id
        and lived.cycle_id = plan.cycle_id
        and plan.recency = 1
    left join used
        on lived.subscription_id = used.subscription_id
        and lived.cycle_id = used.cycle_id
    left join billed
        on lived.subscription_id = billed.subscription_id
        and lived.cycle_id = billed.cycle_id
    left join settled
        on lived.subscription_id = settled.subscription_id
        and lived.cycle_id = settled.cycle_id

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(monthly_fee_amount as decimal(18, 6)) as monthly_fee_amount,
        cast(tenure_days as integer) as tenure_days,
        cast(valid_from < starts_at as boolean) as is_at_start,
        cast(not is_leaving as boolean) as is_at_end,
        cast(valid_from >= starts_at as boolean) as is_new,
        cast(is_leaving as boolean) as is_leaving,
        cast(usage_count > 0 as boolean) as is_active,
        cast(left_date as date) as left_date,
        cast(voice_mo_seconds as bigint) as voice_mo_seconds,
        cast(voice_mt_seconds as bigint) as voice_mt_seconds,
        cast(sms_count as bigint) as sms_count,
        cast(data_octets as bigint) as data_octets,
        cast(charge_amount as decimal(18, 2)) as charge_amount,
        cast(settlement_cost_amount as decimal(18, 6)) as settlement_cost_amount,
        cast(settlement_income_amount as decimal(18, 6)) as settlement_income_amount
    from combined

)

select * from final
