-- Grain: one account (account_id).
with

account as (

    select * from {{ ref('ods__account') }}

),

final as (

    select
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(bill_language as {{ dbt.type_string() }}) as bill_language,
        cast(status as {{ dbt.type_string() }}) as status,
        cast(province_code as {{ dbt.type_string() }}) as province_code
    from account

)

select * from final
