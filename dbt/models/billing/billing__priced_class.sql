-- Grain: one charge class under one version that prices it (plan_version_id, charge_class).
-- What views over charges say of every usage of it; they read no table that other steps replace.
with

class_price as (

    select * from {{ ref('billing__class_price') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

charge_class as (

    select * from {{ ref('ods__charge_class') }}

),

final as (

    select
        {{ number_of(joined_text(['class_price.plan_version_id', 'class_price.charge_class'])) }}
            as class_key,
        class_price.plan_version_id,
        class_price.charge_class,
        min(price_plan_version.offering_id) as offering_id,
        min(price_plan_version.calendar_id) as calendar_id,
        min(charge_class.service) as service,
        min(charge_class.unit) as unit,
        count(class_price.band) > 0 as is_banded,
        case when count(class_price.band) = 0 then min(class_price.usage_price_id) end
            as usage_price_id
    from class_price
    inner join price_plan_version
        on class_price.plan_version_id = price_plan_version.plan_version_id
    inner join charge_class
        on class_price.charge_class = charge_class.charge_class
    group by class_price.plan_version_id, class_price.charge_class

)

select * from final
