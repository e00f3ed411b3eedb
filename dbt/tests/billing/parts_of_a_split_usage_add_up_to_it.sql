-- Rows: usages priced in parts whose parts are more or less than the whole, as where a calendar has a
-- time without a band, or a class a band without a price. Of the usage that this run rated.
with

guided_usage as (

    {{ usage_to_rate(ref('billing__guided_usage')) }}
        and usage.is_split

),

split_usage as (

    {{ usage_to_rate(ref('billing__split_usage')) }}

)

select
    guided_usage.usage_id,
    guided_usage.quantity_micro,
    coalesce(sum(split_usage.quantity_micro), 0) as parts_micro
from guided_usage
left join split_usage
    on guided_usage.usage_id = split_usage.usage_id
group by guided_usage.usage_id, guided_usage.quantity_micro
having coalesce(sum(split_usage.quantity_micro), 0) <> guided_usage.quantity_micro
    or count(split_usage.usage_id) = 0
