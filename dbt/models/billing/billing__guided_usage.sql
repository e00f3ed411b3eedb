-- Grain: one usage (usage_id) that has a line, a plan and a price, with all that is said of them.
{{ config(materialized='view') }}
with

usage_guide as (

    select * from {{ ref('billing__usage_guide') }} where line_key is not null

),

cycle_line as (

    select * from {{ ref('billing__cycle_line') }}

),

priced_class as (

    select * from {{ ref('billing__priced_class') }}

),

final as (

    select
        usage_guide.usage_id,
        usage_guide.line_key,
        usage_guide.account_bin,
        cycle_line.cycle_id,
        cycle_line.subscription_id,
        cycle_line.account_id,
        cycle_line.customer_id,
        cycle_line.province_code,
        priced_class.offering_id,
        priced_class.plan_version_id,
        priced_class.service,
        usage_guide.roaming_class,
        priced_class.charge_class,
        priced_class.unit,
        usage_guide.quantity_micro,
        usage_guide.started_at,
        usage_guide.charge_date,
        cycle_line.time_zone,
        priced_class.calendar_id,
        usage_guide.is_banded,
        usage_guide.is_split,
        usage_guide.is_late,
        usage_guide._file_id
    from usage_guide
    inner join cycle_line
        on usage_guide.line_key = cycle_line.line_key
    inner join priced_class
        on usage_guide.class_key = priced_class.class_key

)

select * from final
