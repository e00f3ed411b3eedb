-- Grain: one account (account_id).
with

account as (

    select * from {{ source('raw', 'crm_account') }}

),

final as (

    select
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(account_name as {{ dbt.type_string() }}) as account_name,
        cast(bill_language as {{ dbt.type_string() }}) as bill_language,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(time_zone as {{ dbt.type_string() }}) as time_zone,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from account

)

select * from final
