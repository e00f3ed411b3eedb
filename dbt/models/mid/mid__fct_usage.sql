-- Grain: one usage (usage_id).
with

usage as (

    select * from {{ ref('mediation__usage') }}

),

guided_usage as (

    select * from {{ ref('billing__guided_usage') }}

),

billing_cycle as (

    select * from {{ ref('ods__billing_cycle') }}

),

owned as (

    select
        usage.usage_id,
        coalesce(guided_usage.cycle_id, billing_cycle.cycle_id) as cycle_id,
        cast({{ civil_time('usage.started_at') }} as date) as usage_date,
        usage.started_at,
        usage.service,
        usage.direction,
        guided_usage.subscription_id,
        guided_usage.account_id,
        coalesce(guided_usage.province_code, usage.province_code) as province_code,
        guided_usage.roaming_class,
        case when usage.service = 'voice' then usage.duration_seconds else 0 end as voice_seconds,
        case
            when usage.service = 'data' then usage.uplink_octets + usage.downlink_octets
            else 0
        end as data_octets,
        case when usage.service = 'sms' and usage.direction = 'mo' then 1 else 0 end as sms_count,
        usage.source_id,
        usage._file_id
    from usage
    left join guided_usage
        on usage.usage_id = guided_usage.usage_id
    left join billing_cycle
        on usage.started_at >= billing_cycle.starts_at
        and usage.started_at < billing_cycle.ends_at

),

final as (

    select
        cast(usage_id as {{ key_type() }}) as usage_id,
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(usage_date as date) as usage_date,
        cast(started_at as timestamp) as started_at,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(direction as {{ dbt.type_string() }}) as direction,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(account_id as {{ dbt.type_string() }}) as account_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(roaming_class as {{ dbt.type_string() }}) as roaming_class,
        cast(voice_seconds as bigint) as voice_seconds,
        cast(data_octets as bigint) as data_octets,
        cast(sms_count as bigint) as sms_count,
        cast(source_id as {{ dbt.type_string() }}) as source_id,
        cast(_file_id as {{ dbt.type_string() }}) as _file_id
    from owned

)

select * from final
