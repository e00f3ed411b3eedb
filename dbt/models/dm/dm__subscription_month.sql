-- Grain: one subscription and cycle (subscription_id, cycle_id).
with

fct_subscription_month as (

    select * from {{ ref('mid__fct_subscription_month') }}

),

dim_offering as (

    select * from {{ ref('mid__dim_offering') }}

),

named as (

    select
        fct_subscription_month.*,
        dim_offering.name_zh as offering_name_zh,
        dim_offering.name_en as offering_name_en
    from fct_subscription_month
    left join dim_offering
        on fct_subscription_month.offering_id = dim_offering.offering_id

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(offering_name_zh as {{ dbt.type_string() }}) as offering_name_zh,
        cast(offering_name_en as {{ dbt.type_string() }}) as offering_name_en,
        cast(monthly_fee_amount as decimal(18, 6)) as monthly_fee_amount,
        cast(tenure_days as integer) as tenure_days,
        cast(is_new as boolean) as is_new,
        cast(is_leaving as boolean) as is_leaving,
        cast(is_active as boolean) as is_active,
        cast(left_date as date) as left_date,
        cast(voice_mo_seconds as bigint) as voice_mo_seconds,
        cast(voice_mt_seconds as bigint) as voice_mt_seconds,
        cast(sms_count as bigint) as sms_count,
        cast(data_octets as bigint) as data_octets,
        cast(charge_amount as decimal(18, 2)) as charge_amount,
        cast(settlement_cost_amount as decimal(18, 6)) as settlement_cost_amount,
        cast(settlement_income_amount as decimal(18, 6)) as settlement_income_amount
    from named

)

select * from final
