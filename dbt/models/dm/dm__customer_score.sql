-- Grain: one subscription (subscription_id).
with

fct_customer_score as (

    select * from {{ ref('mid__fct_customer_score') }}

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(churn_probability as decimal(9, 6)) as churn_probability,
        cast(churn_decile as integer) as churn_decile,
        cast(churn_reasons as {{ dbt.type_string() }}) as churn_reasons,
        cast(value_amount as decimal(18, 2)) as value_amount,
        cast(value_segment as {{ dbt.type_string() }}) as value_segment,
        cast(value_at_risk_amount as decimal(18, 2)) as value_at_risk_amount,
        cast(model_version as {{ dbt.type_string() }}) as model_version,
        cast(data_cut_off as date) as data_cut_off,
        cast(run_id as {{ dbt.type_string() }}) as run_id
    from fct_customer_score

)

select * from final
