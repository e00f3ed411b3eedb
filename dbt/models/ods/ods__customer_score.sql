-- Grain: one scored subscription (subscription_id), as of the latest data cut-off.
with

customer_score as (

    select * from {{ source('raw', 'customer_score') }}
    where data_cut_off = (select max(data_cut_off) from {{ source('raw', 'customer_score') }})

),

final as (

    select
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(churn_probability as numeric(9, 6)) as churn_probability,
        cast(churn_decile as integer) as churn_decile,
        cast(churn_reasons as {{ dbt.type_string() }}) as churn_reasons,
        cast(value_amount as numeric(18, 2)) as value_amount,
        cast(value_segment as {{ dbt.type_string() }}) as value_segment,
        cast(value_at_risk_amount as numeric(18, 2)) as value_at_risk_amount,
        cast(model_version as {{ dbt.type_string() }}) as model_version,
        cast(data_cut_off as date) as data_cut_off,
        cast(run_id as {{ dbt.type_string() }}) as run_id,
        cast(_loaded_at as timestamp) as _loaded_at
    from customer_score

)

select * from final
