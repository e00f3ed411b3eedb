-- Grain: one province (province_code); 00 is the nation.
with

province as (

    select * from {{ ref('province') }}

),

final as (

    select
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(
            case province_code when '00' then '全国' else name_zh end as {{ dbt.type_string() }}
        ) as name_zh,
        cast(
            case province_code when '00' then 'National' else name_en end as {{ dbt.type_string() }}
        ) as name_en,
        cast(province_code = '00' as boolean) as is_national
    from province

)

select * from final
