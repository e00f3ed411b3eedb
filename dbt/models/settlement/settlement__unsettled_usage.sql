-- Grain: one usage (usage_id) carried over a trunk group that has no settlement entry.
-- A closed cycle is the reason only where nothing else is missing.
with

usage as (

    select * from {{ ref('mediation__usage') }}

),

interconnect_entry as (

    select * from {{ ref('settlement__interconnect_entry') }}

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

unsettled as (

    select
        carried.*,
        case
            when trunk_group.trunk_group_id is null then 'unknown_trunk_group'
            when agreement.agreement_id is null then 'no_agreement'
            when agreement_rate.agreement_id is null then 'no_rate'
            when billing_cycle.cycle_id is null then 'no_cycle'
            else 'cycle_closed'
        end as reason_code
    from carried
    left join interconnect_entry
        on carried.usage_id = interconnect_entry.usage_id
    left join trunk_group
        on carried.trunk_group_id = trunk_group.trunk_group_id
        and carried.trunk_direction = trunk_group.direction
    left join agreement
        on trunk_group.operator_code = agreement.counterparty_code
        and carried.started_at >= agreement.valid_from
        and (carried.started_at < agreement.valid_to or agreement.valid_to is null)
    left join agreement_rate
        on agreement.agreement_id = agreement_rate.agreement_id
        and carried.service = agreement_rate.service
        and carried.direction = agreement_rate.direction
        and carried.started_at >= agreement_rate.valid_from
        and (carried.started_at < agreement_rate.valid_to or agreement_rate.valid_to is null)
    left join billing_cycle
        on carried.started_at >= billing_cycle.starts_at
        and carried.started_at < billing_cycle.ends_at
    where
        carried.trunk_group_id <> ''
        and interconnect_entry.usage_id is null

),

final as (

    select
        cast(usage_id as {{ key_type() }}) as usage_id,
        cast(reason_code as {{ dbt.type_string() }}) as reason_code,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(trunk_group_id as {{ dbt.type_string() }}) as trunk_group_id,
        cast(started_at as timestamp) as started_at,
        cast(duration_seconds as bigint) as duration_seconds,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_file_id as {{ dbt.type_string() }}) as _file_id
    from unsettled

)

select * from final
