-- Grain: one statement (agreement_id, cycle_id, direction, province_code).
with

statement as (

    select * from {{ ref('settlement__statement') }}

),

agreement as (

    select * from {{ ref('ods__agreement') }}

),

named as (

    select
        statement.*,
        agreement.counterparty_name_zh,
        agreement.counterparty_name_en
    from statement
    left join agreement
        on statement.agreement_id = agreement.agreement_id

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
        cast(call_count as bigint) as call_count,
        cast(billed_minutes as decimal(18, 2)) as billed_minutes,
        cast(exact_amount as decimal(18, 6)) as exact_amount,
        cast(amount as decimal(18, 2)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from named

)

select * from final
