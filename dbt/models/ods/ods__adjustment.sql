-- Grain: one entry of the receivables ledger that is neither bill nor payment (entry_id).
with

adjustment as (

    select * from {{ source('raw', 'billing_adjustment') }}

),

final as (

    select
        cast(entry_id as bigint) as entry_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(adjustment_type as {{ dbt.type_string() }}) as adjustment_type,
        cast(posted_date as date) as posted_date,
        cast(amount as numeric(18, 2)) as amount,
        cast(_loaded_at as timestamp) as _loaded_at
    from adjustment

)

select * from final
