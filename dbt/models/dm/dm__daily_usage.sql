-- Grain: one day, province, service and roaming class (usage_date, province_code, service,
-- roaming_class).
with

fct_usage as (

    select * from {{ ref('mid__fct_usage') }}

),

dim_province as (

    select * from {{ ref('mid__dim_province') }}

),

summed as (

    select
        usage_date,
        province_code,
        service,
        roaming_class,
        count(*) as usage_count,
        sum(voice_seconds) as voice_seconds,
        sum(data_octets) as data_octets,
        sum(sms_count) as sms_count
    from fct_usage
    where subscription_id is not null
    group by usage_date, province_code, service, roaming_class

),

named as (

    select
        summed.*,
        dim_province.name_zh as province_name_zh,
        dim_province.name_en as province_name_en
    from summed
    left join dim_province
        on summed.province_code = dim_province.province_code

),

final as (

    select
        cast(usage_date as date) as usage_date,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(province_name_zh as {{ dbt.type_string() }}) as province_name_zh,
        cast(province_name_en as {{ dbt.type_string() }}) as province_name_en,
        cast(service as {{ dbt.type_string() }}) as service,
        cast(roaming_class as {{ dbt.type_string() }}) as roaming_class,
        cast(usage_count as bigint) as usage_count,
        cast({{ ratio('voice_seconds', '60', 2) }} as decimal(18, 2)) as voice_minutes,
        cast({{ ratio('data_octets', '1048576', 3) }} as decimal(18, 3)) as data_mb,
        cast(sms_count as bigint) as sms_count
    from named

)

select * from final
