-- Grain: one charge (charge_key): a usage under one price component, a product's fee in a cycle under
-- one version of its plan (and of its bundle), or what an occasion or a broken commitment costs once.
-- A view: the tables it puts side by side keep the charges of every cycle.
{{ config(materialized='view') }}
with

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}

),

usage_charge as (

    select * from {{ ref('billing__usage_charge') }}

),

price_rule as (

    select * from {{ ref('billing__price_rule') }}

),

recurring_charge as (

    select * from {{ ref('billing__recurring_charge') }}

),

one_off_charge as (

    select * from {{ ref('billing__one_off_charge') }}

),

money_draw as (

    select usage_id, usage_price_id, sum(drawn_amount) as drawn_amount
    from {{ ref('billing__money_draw') }}
    group by usage_id, usage_price_id

),

charged_usage as (

    select
        {{ hash_key(["'usage'", 'guided_usage.usage_id', 'usage_charge.usage_price_id']) }}
            as charge_key,
        guided_usage.cycle_id,
        'usage' as charge_type,
        guided_usage.usage_id,
        guided_usage.subscription_id,
        guided_usage.account_id,
        guided_usage.customer_id,
        guided_usage.province_code,
        guided_usage.offering_id,
        price_rule.plan_version_id,
        guided_usage.charge_class,
        price_rule.bill_item_code,
        guided_usage.started_at as charged_at,
        guided_usage.charge_date,
        guided_usage.service,
        guided_usage.roaming_class,
        usage_charge.left_micro as billable_micro,
        usage_charge.quantity_micro - usage_charge.left_micro as drawn_micro,
        guided_usage.unit,
        usage_charge.usage_price_id as price_component,
        usage_charge.amount - coalesce(money_draw.drawn_amount, 0) as amount,
        coalesce(money_draw.drawn_amount, 0) as covered_amount,
        usage_charge.rounding_residue_amount,
        guided_usage._file_id
    from guided_usage
    inner join usage_charge
        on guided_usage.usage_id = usage_charge.usage_id
    inner join price_rule
        on usage_charge.usage_price_id = price_rule.usage_price_id
    left join money_draw
        on usage_charge.usage_id = money_draw.usage_id
        and usage_charge.usage_price_id = money_draw.usage_price_id

),

charged_fee as (

    select
        {{ hash_key([
            "'recurring'", 'product_instance_id', 'plan_version_id', 'cycle_id', 'part_number'
        ]) }} as charge_key,
        cycle_id,
        'recurring' as charge_type,
        cast(null as {{ key_type() }}) as usage_id,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        'monthly_fee' as charge_class,
        'rent' as bill_item_code,
        held_from as charged_at,
        first_date as charge_date,
        cast(null as {{ dbt.type_string() }}) as service,
        cast(null as {{ dbt.type_string() }}) as roaming_class,
        held_days * 1000000 as billable_micro,
        0 as drawn_micro,
        'day' as unit,
        plan_version_id || '/monthly_fee' as price_component,
        amount,
        0 as covered_amount,
        rounding_residue_amount,
        cast(null as {{ dbt.type_string() }}) as _file_id
    from recurring_charge

),

charged_once as (

    select
        {{ hash_key(['charge_type', 'product_instance_id', 'occasion', 'cycle_id']) }}
            as charge_key,
        cycle_id,
        charge_type,
        cast(null as {{ key_type() }}) as usage_id,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        occasion as charge_class,
        bill_item_code,
        happened_at as charged_at,
        charge_date,
        cast(null as {{ dbt.type_string() }}) as service,
        cast(null as {{ dbt.type_string() }}) as roaming_class,
        1000000 as billable_micro,
        0 as drawn_micro,
        'event' as unit,
        price_component,
        amount,
        0 as covered_amount,
        0 as rounding_residue_amount,
        cast(null as {{ dbt.type_string() }}) as _file_id
    from one_off_charge

),

charged as (

    select * from charged_usage

    union all

    select * from charged_fee

    union all

    select * from charged_once

),

final as (

    select
        cast(charge_key as {{ key_type() }}) as charge_key,
        cycle_id,
        charge_type,
        usage_id,
        subscription_id,
        account_id,
        customer_id,
        province_code,
        offering_id,
        plan_version_id,
        charge_class,
        bill_item_code,
        charged_at,
        charge_date,
        service,
        roaming_class,
        {{ micro_quantity('billable_micro') }} as billable_quantity,
        {{ micro_quantity('drawn_micro') }} as drawn_quantity,
        unit,
        price_component,
        cast(amount as decimal(18, 6)) as amount,
        cast(covered_amount as decimal(18, 6)) as covered_amount,
        cast(rounding_residue_amount as decimal(18, 9)) as rounding_residue_amount,
        'CNY' as currency_code,
        _file_id
    from charged

)

select * from final
