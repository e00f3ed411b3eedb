{{ config(
    materialized='replaced_rows', replaced='rows_rated_again', is_sliced=true
) }}

-- Grain: one part of one usage that may change its price while it lasts (usage_id, segment_number).
-- Step 2 of rating: a call is split where its price changes, that is at the bounds of time bands, in
-- the civil time of the rated party, and where the plan changes. What is not measured in seconds is
-- priced whole, in the band it began in. The parts add up to the usage.
with

guided_usage as (

    {{ usage_to_rate(ref('billing__guided_usage')) }}
        and usage.is_split

),

class_price as (

    select * from {{ ref('billing__class_price') }}

),

band_period as (

    select * from {{ ref('billing__band_period') }}

),

product_holding as (

    select * from {{ ref('billing__product_holding') }} where role = 'plan'

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

split as (

    select
        guided_usage.*,
        {{ add_microseconds('started_at', 'abs(quantity_micro)') }} as ended_at
    from guided_usage
    where unit = 'second' and quantity_micro <> 0

),

-- The plans held while it went on, if they price it; each until the next begins.
planned as (

    select
        split.usage_id,
        split.time_zone,
        split.charge_class,
        split.ended_at,
        product_holding.plan_version_id,
        product_holding.calendar_id,
        greatest(split.started_at, product_holding.held_from) as from_at
    from split
    inner join product_holding
        on split.subscription_id = product_holding.subscription_id
        and product_holding.held_from < split.ended_at
        and product_holding.held_to > split.started_at
    where exists (
        select 1 from class_price
        where class_price.plan_version_id = product_holding.plan_version_id
            and class_price.charge_class = split.charge_class
    )

),

bounded as (

    select
        planned.*,
        coalesce(
            lead(from_at) over (partition by usage_id order by from_at), ended_at
        ) as to_at
    from planned

),

piece as (

    select
        bounded.usage_id,
        bounded.plan_version_id,
        class_price.usage_price_id,
        class_price.band,
        bounded.from_at as held_at,
        case
            when class_price.band is null then bounded.from_at
            else greatest(bounded.from_at, band_period.starts_at)
        end as from_at,
        case
            when class_price.band is null then bounded.to_at
            else least(bounded.to_at, band_period.ends_at)
        end as to_at
    from bounded
    inner join class_price
        on bounded.plan_version_id = class_price.plan_version_id
        and bounded.charge_class = class_price.charge_class
    left join band_period
        on bounded.calendar_id = band_period.calendar_id
        and bounded.time_zone = band_period.time_zone
        and class_price.band = band_period.band
        and band_period.starts_at < bounded.to_at
        and band_period.ends_at > bounded.from_at
    where class_price.band is null or band_period.band is not null

),

-- Pieces side by side under one price are one part.
begun as (

    select
        piece.*,
        case
            when usage_price_id
                = lag(usage_price_id) over (partition by usage_id order by from_at) then 0
            else 1
        end as is_begin
    from piece

),

numbered as (

    select
        begun.*,
        sum(is_begin) over (
            partition by usage_id order by from_at
            rows between unbounded preceding and current row
        ) as segment_number
    from begun

),

part as (

    select
        usage_id,
        segment_number,
        plan_version_id,
        usage_price_id,
        band,
        min(held_at) as held_at,
        sum({{ microseconds_between('from_at', 'to_at') }}) as size_micro,
        count(*) over (partition by usage_id) as segment_count
    from numbered
    group by usage_id, segment_number, plan_version_id, usage_price_id, band

),

{%- set kept = ['usage_id', 'line_key', 'account_bin', 'charge_class', 'started_at'] %}

segment as (

    -- priced whole, in the band it began in
    select
        {%- for column in kept %}
        guided_usage.{{ column }},
        {%- endfor %}
        guided_usage.plan_version_id,
        class_price.usage_price_id,
        class_price.band,
        guided_usage.started_at as held_at,
        1 as segment_number,
        1 as segment_count,
        guided_usage.quantity_micro
    from guided_usage
    inner join class_price
        on guided_usage.plan_version_id = class_price.plan_version_id
        and guided_usage.charge_class = class_price.charge_class
    inner join band_period
        on guided_usage.calendar_id = band_period.calendar_id
        and guided_usage.time_zone = band_period.time_zone
        and class_price.band = band_period.band
        and guided_usage.started_at >= band_period.starts_at
        and guided_usage.started_at < band_period.ends_at
    where guided_usage.is_banded
        and (guided_usage.unit <> 'second' or guided_usage.quantity_micro = 0)

    union all

    -- split; a part after the end of the cycle still counts to it
    select
        {%- for column in kept %}
        split.{{ column }},
        {%- endfor %}
        part.plan_version_id,
        part.usage_price_id,
        part.band,
        least(part.held_at, billing_cycle.ends_at - interval '1 second') as held_at,
        part.segment_number,
        part.segment_count,
        part.size_micro * sign(split.quantity_micro) as quantity_micro
    from split
    inner join part
        on split.usage_id = part.usage_id
    inner join billing_cycle
        on split.cycle_id = billing_cycle.cycle_id

),

final as (

    select
        usage_id,
        cast(segment_number as integer) as segment_number,
        cast(segment_count as integer) as segment_count,
        line_key,
        account_bin,
        plan_version_id,
        usage_price_id,
        charge_class,
        band,
        started_at,
        cast(held_at as timestamp) as held_at,
        cast(quantity_micro as bigint) as quantity_micro
    from segment

)

select * from final
