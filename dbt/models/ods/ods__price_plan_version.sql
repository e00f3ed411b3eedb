-- Grain: one version of a price plan (plan_version_id).
with

price_plan_version as (

    select * from {{ source('raw', 'catalogue_price_plan_version') }}

),

final as (

    select
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(version_number as integer) as version_number,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(monthly_fee_amount as numeric(18, 6)) as monthly_fee_amount,
        cast(calendar_id as {{ dbt.type_string() }}) as calendar_id,
        cast(cost_denominator as bigint) as cost_denominator,
        cast(first_month_rule as {{ dbt.type_string() }}) as first_month_rule,
        cast(last_month_rule as {{ dbt.type_string() }}) as last_month_rule,
        cast(suspension_fee_amount as numeric(18, 6)) as suspension_fee_amount,
        cast(minimum_consumption_amount as numeric(18, 2)) as minimum_consumption_amount,
        cast(late_usage_policy as {{ dbt.type_string() }}) as late_usage_policy,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from price_plan_version

)

select * from final
