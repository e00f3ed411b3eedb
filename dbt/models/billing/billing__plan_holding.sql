-- Grain: one subscription and plan version, while it was held (subscription_id, plan_version_id,
-- held_from). Who owned a number under which tariff, as intervals that do not overlap.
with

subscription as (

    select * from {{ ref('ods__subscription') }}

),

account as (

    select * from {{ ref('ods__account') }}

),

product_instance as (

    select * from {{ ref('ods__product_instance') }}
    where role = 'plan'

),

price_plan_version as (

    select * from {{ ref('ods__price_plan_version') }}

),

held as (

    select
        subscription.subscription_id,
        subscription.account_id,
        account.customer_id,
        subscription.msisdn,
        subscription.province_code,
        product_instance.offering_id,
        price_plan_version.plan_version_id,
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

),

final as (

    select
        subscription_id,
        account_id,
        customer_id,
        msisdn,
        province_code,
        offering_id,
        plan_version_id,
        cast(held_from as timestamp) as held_from,
        cast(held_to as timestamp) as held_to
    from held
    where held_from < held_to

)

select * from final
