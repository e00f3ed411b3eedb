-- Grain: one KPI, cycle and home province (cycle_id, province_code, kpi_code).
-- Ratios per user divide by average users: (users at start + users at end) / 2.
with

fct_province_month as (

    select * from {{ ref('mid__fct_province_month') }}

),

dim_province as (

    select * from {{ ref('mid__dim_province') }}

),

dim_kpi as (

    select * from {{ ref('mid__dim_kpi') }}

),

whole as (

    select
        fct_province_month.*,
        users_start + users_end as both_ends,
        {{ to_micro('revenue_amount') }} as revenue_micro
    from fct_province_month

),

measured as (

    select
        cycle_id,
        province_code,
        'users_end' as kpi_code,
        cast(users_end as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'users_new' as kpi_code,
        cast(users_new as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'users_leaving' as kpi_code,
        cast(users_leaving as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'users_net_adds' as kpi_code,
        cast(users_new - users_leaving as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'users_active' as kpi_code,
        cast(users_active as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'revenue_total' as kpi_code,
        cast(revenue_amount as decimal(18, 6)) as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'arpu' as kpi_code,
        {{ ratio('2 * revenue_micro', '1000000 * both_ends') }} as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'voice_minutes' as kpi_code,
        {{ ratio('voice_seconds', '60') }} as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'mou' as kpi_code,
        {{ ratio('2 * voice_seconds', '60 * both_ends') }} as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'data_gb' as kpi_code,
        {{ ratio('data_octets', '1073741824') }} as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'dou_mb' as kpi_code,
        {{ ratio('2 * data_octets', '1048576 * both_ends') }} as value
    from whole

    union all

    select
        cycle_id,
        province_code,
        'sms_count' as kpi_code,
        cast(sms_count as decimal(18, 6)) as value
    from whole

),

named as (

    select
        measured.*,
        dim_province.name_zh as province_name_zh,
        dim_province.name_en as province_name_en,
        dim_kpi.name_zh as kpi_name_zh,
        dim_kpi.name_en as kpi_name_en,
        dim_kpi.unit,
        case when dim_province.is_national then dim_kpi.target_value end as target_value
    from measured
    left join dim_province
        on measured.province_code = dim_province.province_code
    left join dim_kpi
        on measured.kpi_code = dim_kpi.kpi_code

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(province_name_zh as {{ dbt.type_string() }}) as province_name_zh,
        cast(province_name_en as {{ dbt.type_string() }}) as province_name_en,
        cast(kpi_code as {{ dbt.type_string() }}) as kpi_code,
        cast(kpi_name_zh as {{ dbt.type_string() }}) as kpi_name_zh,
        cast(kpi_name_en as {{ dbt.type_string() }}) as kpi_name_en,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(value as decimal(18, 6)) as value,
        cast(target_value as decimal(18, 6)) as target_value
    from named

)

select * from final
