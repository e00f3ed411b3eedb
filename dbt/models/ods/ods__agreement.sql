-- Grain: one agreement (agreement_id).
with

agreement as (

    select * from {{ source('raw', 'settlement_agreement') }}

),

final as (

    select
        cast(agreement_id as {{ dbt.type_string() }}) as agreement_id,
        cast(counterparty_code as {{ dbt.type_string() }}) as counterparty_code,
        cast(counterparty_name_zh as {{ dbt.type_string() }}) as counterparty_name_zh,
        cast(counterparty_name_en as {{ dbt.type_string() }}) as counterparty_name_en,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from agreement

)

select * from final
