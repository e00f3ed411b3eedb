-- Grain: one subscription (subscription_id).
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

plan as (

    select
        subscription_id,
        offering_id,
        row_number() over (
            partition by subscription_id
            order by valid_from desc, product_instance_id desc
        ) as recency
    from product_instance
    where role = 'plan'

),

described as (

    select
        subscription.*,
        account.customer_id,
        plan.offering_id,
        cast({{ civil_time('subscription.valid_from') }} as date) as joined_date,
        cast({{ civil_time('subscription.valid_to') }} as date) as left_date,
        cast(
            {{ civil_time("subscription.valid_to - interval '1 microsecond'") }} as date
        ) as last_valid_date
    from subscription
    left join account
        on subscription.account_id = account.account_id
    left join plan
        on subscription.subscription_id = plan.subscription_id
        and plan.recency = 1

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(service_type as {{ dbt.type_string() }}) as service_type,
        cast(payment_type as {{ dbt.type_string() }}) as payment_type,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(valid_from as timestamp) as valid_from,
        cast(valid_to as timestamp) as valid_to,
        cast(joined_date as date) as joined_date,
        cast(left_date as date) as left_date,
        cast(last_valid_date as date) as last_valid_date
    from described

)

select * from final
