-- Grain: one interval of a product instance under one version of its offering
-- (product_instance_id, plan_version_id).
with

subscription as (

    select * from {{ ref('ods__subscription') }}

),

account as (

    select * from {{ ref('ods__account') }}

),

product_instance as (

    select * from {{ ref('ods__product_instance') }}

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

number_area as (

    select * from {{ ref('ods__number_area') }}

),

held as (

    select
        product_instance.product_instance_id,
        product_instance.role,
        product_instance.bundle_instance_id,
        subscription.subscription_id,
        subscription.account_id,
        account.customer_id,
        subscription.msisdn,
        subscription.province_code,
        coalesce(subscription.service_type = 'fixed', false) as is_fixed_line,
        number_area.area_code as home_area_code,
        coalesce(account.time_zone, {{ project_zone() }}) as time_zone,
        product_instance.offering_id,
        price_plan_version.plan_version_id,
        price_plan_version.calendar_id,
        price_plan_version.cost_denominator,
        price_plan_version.first_month_rule,
        product_instance.valid_from as joined_at,
        greatest(
            subscription.valid_from, product_instance.valid_from, price_plan_version.valid_from
        ) as held_from,
        least(
            coalesce(subscription.valid_to, {{ end_of_time() }}),
            coalesce(product_instance.valid_to, {{ end_of_time() }}),
            coalesce(price_plan_version.valid_to, {{ end_of_time() }})
        ) as held_to
    from subscription
    inner join account
        on subscription.account_id = account.account_id
    inner join product_instance
        on subscription.subscription_id = product_instance.subscription_id
    inner join price_plan_version
        on product_instance.offering_id = price_plan_version.offering_id
    left join number_area
        on {{ area_prefix('subscription.msisdn') }} = number_area.area_prefix

),

final as (

    select
        product_instance_id,
        role,
        bundle_instance_id,
        subscription_id,
        account_id,
        customer_id,
        msisdn,
        province_code,
        is_fixed_line,
        home_area_code,
        cast(time_zone as {{ dbt.type_string() }}) as time_zone,
        offering_id,
        plan_version_id,
        calendar_id,
        cost_denominator,
        first_month_rule,
        cast(joined_at as timestamp) as joined_at,
        cast(held_from as timestamp) as held_from,
        cast(held_to as timestamp) as held_to
    from held
    where held_from < held_to

)

select * from final
