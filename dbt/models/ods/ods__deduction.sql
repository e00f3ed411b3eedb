-- Grain: one difference deducted from a prepaid balance (account_id, cycle_id, sequence,
-- bill_item_code).
with

deduction as (

    select * from {{ source('raw', 'billing_deduction') }}

),

final as (

    select
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(sequence as integer) as sequence,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(amount as numeric(18, 2)) as amount,
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from deduction

)

select * from final
