-- Grain: one cycle, province, plan and bill item (cycle_id, province_code, offering_id,
-- bill_item_code).
with

fct_bill_item as (

    select * from {{ ref('mid__fct_bill_item') }}

),

dim_province as (

    select * from {{ ref('mid__dim_province') }}

),

dim_offering as (

    select * from {{ ref('mid__dim_offering') }}

),

dim_bill_item as (

    select * from {{ ref('mid__dim_bill_item') }}

),

summed as (

    select
        cycle_id,
        province_code,
        offering_id,
        bill_item_code,
        count(distinct subscription_id) as subscription_count,
        sum(amount) as amount
    from fct_bill_item
    where is_revenue
    group by cycle_id, province_code, offering_id, bill_item_code

),

named as (

    select
        summed.*,
        dim_province.name_zh as province_name_zh,
        dim_province.name_en as province_name_en,
        dim_offering.name_zh as offering_name_zh,
        dim_offering.name_en as offering_name_en,
        dim_bill_item.name_zh as bill_item_name_zh,
        dim_bill_item.name_en as bill_item_name_en
    from summed
    left join dim_province
        on summed.province_code = dim_province.province_code
    left join dim_offering
        on summed.offering_id = dim_offering.offering_id
    left join dim_bill_item
        on summed.bill_item_code = dim_bill_item.bill_item_code

),

final as (

    select
        cast(cycle_id as {{ dbt.type_string() }}) as cycle_id,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(province_name_zh as {{ dbt.type_string() }}) as province_name_zh,
        cast(province_name_en as {{ dbt.type_string() }}) as province_name_en,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(offering_name_zh as {{ dbt.type_string() }}) as offering_name_zh,
        cast(offering_name_en as {{ dbt.type_string() }}) as offering_name_en,
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(bill_item_name_zh as {{ dbt.type_string() }}) as bill_item_name_zh,
        cast(bill_item_name_en as {{ dbt.type_string() }}) as bill_item_name_en,
        cast(subscription_count as bigint) as subscription_count,
        cast(amount as decimal(18, 2)) as amount
    from named

)

select * from final
