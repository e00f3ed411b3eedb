-- Grain: one part of one usage under one price (usage_id, segment_number), in order.
-- Nearly every usage is its own one part.
{{ config(materialized='view') }}
with

usage_guide as (

    select * from {{ ref('billing__usage_guide') }}
    where line_key is not null and not is_split

),

priced_class as (

    select * from {{ ref('billing__priced_class') }}

),

split_usage as (

    select * from {{ ref('billing__split_usage') }}

),

final as (

    select
        usage_guide.usage_id,
        1 as segment_number,
        1 as segment_count,
        usage_guide.line_key,
        usage_guide.account_bin,
        priced_class.plan_version_id,
        priced_class.usage_price_id,
        priced_class.charge_class,
        cast(null as {{ dbt.type_string() }}) as band,
        usage_guide.started_at,
        usage_guide.started_at as held_at,
        usage_guide.quantity_micro
    from usage_guide
    inner join priced_class
        on usage_guide.class_key = priced_class.class_key

    union all

    select
        usage_id,
        segment_number,
        segment_count,
        line_key,
        account_bin,
        plan_version_id,
        usage_price_id,
        charge_class,
        band,
        started_at,
        held_at,
        quantity_micro
    from split_usage

)

select * from final
