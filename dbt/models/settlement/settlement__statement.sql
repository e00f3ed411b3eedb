{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles', full_refresh=false) }}

-- Grain: one statement (agreement_id, cycle_id, direction, province_code).
-- The one place where a settlement amount is rounded: half-up to 0.01, after adding up.
with

interconnect_entry as (

    select * from {{ ref('settlement__interconnect_entry') }}
    where cycle_id in {{ open_cycles() }}

),

accumulated as (

    select
        agreement_id,
        counterparty_code,
        cycle_id,
        direction,
        province_code,
        currency_code,
        count(*) as call_count,
        sum(billed_seconds) as billed_seconds,
        cast(sum(amount) as decimal(18, 6)) as exact_amount
    from interconnect_entry
    group by
        agreement_id, counterparty_code, cycle_id, direction, province_code, currency_code

),

rounded as (

    select
        accumulated.*,
        cycle_id || '-' || agreement_id || '-' || direction || '-' || province_code as statement_id,
        {{ divide_rounded(to_micro('exact_amount'), '10000') }} * 10000 as amount_micro
    from accumulated

),

final as (

    select
        cast(statement_id as {{ dbt.type_string() }}) as statement_id,
        cast(agreement_id as {{ dbt.type_string() }}) as agreement_id,
        cast(counterparty_code as {{ dbt.type_string() }}) as counterparty_code,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(call_count as bigint) as call_count,
        cast({{ ratio('billed_seconds', '60', 2) }} as decimal(18, 2)) as billed_minutes,
        cast(exact_amount as decimal(18, 6)) as exact_amount,
        cast({{ from_micro('amount_micro') }} as decimal(18, 2)) as amount,
        cast(
            {{ from_micro('amount_micro') }} - exact_amount as decimal(18, 6)
        ) as rounding_residue_amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code
    from rounded

)

select * from final
