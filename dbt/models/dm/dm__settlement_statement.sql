-- Grain: one statement (agreement_id, cycle_id, direction, province_code).
with

fct_settlement_statement as (

    select * from {{ ref('mid__fct_settlement_statement') }}

),

dim_province as (

    select * from {{ ref('mid__dim_province') }}

),

named as (

    select
        fct_settlement_statement.*,
        dim_province.name_zh as province_name_zh,
        dim_province.name_en as province_name_en
    from fct_settlement_statement
    left join dim_province
        on fct_settlement_statement.province_code = dim_province.province_code

),

final as (

    select
        cast(statement_id as {{ dbt.type_string() }}) as statement_id,
        cast(agreement_id as {{ dbt.type_string() }}) as agreement_id,
        cast(counterparty_code as {{ dbt.type_string() }}) as counterparty_code,
        cast(counterparty_name_zh as {{ dbt.type_string() }}) as counterparty_name_zh,
        cast(counterparty_name_en as {{ dbt.type_string() }}) as counterparty_name_en,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(province_name_zh as {{ dbt.type_string() }}) as province_name_zh,
        cast(province_name_en as {{ dbt.type_string() }}) as province_name_en,
        cast(call_count as bigint) as call_count,
        cast(billed_minutes as decimal(18, 2)) as billed_minutes,
        cast(exact_amount as decimal(18, 6)) as exact_amount,
        cast(amount as decimal(18, 2)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from named

)

select * from final
