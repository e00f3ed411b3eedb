-- Grain: one charge class in one time band under one version (plan_version_id, charge_class, band).
-- The price of the class itself or, if the version has none, of its nearest ancestor. Without a band
-- the price holds all day.
with

usage_price as (

    select * from {{ ref('ods__usage_price') }}

),

class_ancestor as (

    select * from {{ ref('billing__class_ancestor') }}

),

candidate as (

    select
        usage_price.plan_version_id,
        class_ancestor.charge_class,
        usage_price.band,
        usage_price.usage_price_id,
        usage_price.bill_item_code,
        class_ancestor.distance,
        min(class_ancestor.distance) over (
            partition by usage_price.plan_version_id, class_ancestor.charge_class
        ) as least_distance
    from usage_price
    inner join class_ancestor
        on usage_price.charge_class = class_ancestor.ancestor_class

),

final as (

    select
        plan_version_id,
        charge_class,
        band,
        usage_price_id,
        bill_item_code
    from candidate
    where distance = least_distance

)

select * from final
