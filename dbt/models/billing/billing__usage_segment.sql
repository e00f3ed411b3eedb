-- Grain: one part of one usage under one price (usage_id, segment_number), in order.
-- Nearly every usage is its own one part.
{{ config(materialized='view') }}
with

guided_usage as (

    select * from {{ ref('billing__guided_usage') }} where not is_split

),

split_usage as (

    select * from {{ ref('billing__split_usage') }}

),

final as (

    select
        usage_id,
        1 as segment_number,
        1 as segment_count,
        cycle_id,
        subscription_id,
        account_id,
        plan_version_id,
        usage_price_id,
        charge_class,
        cast(null as {{ dbt.type_string() }}) as band,
        bill_item_code,
        started_at,
        started_at as held_at,
        quantity_micro
    from guided_usage

    union all

    select
        usage_id,
        segment_number,
        segment_count,
        cycle_id,
        subscription_id,
        account_id,
        plan_version_id,
        usage_price_id,
        charge_class,
        band,
        bill_item_code,
        started_at,
        held_at,
        quantity_micro
    from split_usage

)

select * from final
