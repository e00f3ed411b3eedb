-- Rows: usages priced in parts whose parts are more or less than the whole, as where a calendar has a
-- time without a band, or a class a band without a price.
select
    guided_usage.usage_id,
    guided_usage.quantity_micro,
    coalesce(sum(split_usage.quantity_micro), 0) as parts_micro
from {{ ref('billing__guided_usage') }} as guided_usage
left join {{ ref('billing__split_usage') }} as split_usage
    on guided_usage.usage_id = split_usage.usage_id
where guided_usage.is_split
group by guided_usage.usage_id, guided_usage.quantity_micro
having coalesce(sum(split_usage.quantity_micro), 0) <> guided_usage.quantity_micro
    or count(split_usage.usage_id) = 0
