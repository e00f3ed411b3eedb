{{ config(materialized='replaced_rows', replaced='rows_of_open_cycles', full_refresh=false) }}

-- Grain: one usage and one agreement (usage_id, agreement_id).
-- Agreement and rate are those in force at the event. Entries of final cycles stay.
with

usage as (

    select * from {{ ref('mediation__usage') }}

),

trunk_group as (

    select * from {{ ref('ods__trunk_group') }}

),

agreement as (

    select * from {{ ref('ods__agreement') }}

),

agreement_rate as (

    select * from {{ ref('ods__agreement_rate') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

carried as (

    select
        usage_id,
        service,
        started_at,
        duration_seconds,
        province_code,
        _file_id,
        case direction when 'mt' then 'receivable' else 'payable' end as direction,
        case direction when 'mt' then 'in' else 'out' end as trunk_direction,
        case direction when 'mt' then trunk_group_in else trunk_group_out end as trunk_group_id
    from usage
    where service = 'voice'

),

agreed as (

    select
        carried.*,
        billing_cycle.cycle_id,
        agreement.agreement_id,
        agreement.counterparty_code,
        agreement.currency_code,
        agreement_rate.version_number,
        agreement_rate.rate_amount,
        agreement_rate.per_quantity,
        {{ round_up_to('carried.duration_seconds', 'agreement_rate.per_quantity') }}
            as billed_seconds
    from carried
    inner join trunk_group
        on carried.trunk_group_id = trunk_group.trunk_group_id
        and carried.trunk_direction = trunk_group.direction
    inner join billing_cycle
        on carried.started_at >= billing_cycle.starts_at
        and carried.started_at < billing_cycle.ends_at
        and billing_cycle.cycle_id in {{ open_cycles() }}
    inner join agreement
        on trunk_group.operator_code = agreement.counterparty_code
        and carried.started_at >= agreement.valid_from
        and (carried.started_at < agreement.valid_to or agreement.valid_to is null)
    inner join agreement_rate
        on agreement.agreement_id = agreement_rate.agreement_id
        and carried.service = agreement_rate.service
        and carried.direction = agreement_rate.direction
        and carried.started_at >= agreement_rate.valid_from
        and (carried.started_at < agreement_rate.valid_to or agreement_rate.valid_to is null)

),

valued as (

    select
        agreed.*,
        cast({{ integer_divide('billed_seconds', 'per_quantity') }} as decimal(12, 0))
            * rate_amount as amount
    from agreed

),

final as (

    select
        cast({{ hash_key(['usage_id', 'agreement_id']) }} as {{ dbt.type_string() }}) as entry_key,
        cast(usage_id as {{ key_type() }}) as usage_id,
        cast(agreement_id as {{ dbt.type_string() }}) as agreement_id,
        cast(version_number as integer) as version_number,
        cast(counterparty_code as {{ dbt.type_string() }}) as counterparty_code,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(trunk_group_id as {{ dbt.type_string() }}) as trunk_group_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(billed_seconds as bigint) as billed_seconds,
        cast(rate_amount as decimal(18, 6)) as rate_amount,
        cast(amount as decimal(18, 6)) as amount,
        cast(currency_code as {{ dbt.type_string() }}) as currency_code,
        cast(_file_id as {{ dbt.type_string() }}) as _file_id
    from valued

)

select * from final
