-- Grain: one kind of bill item (bill_item_code).
with

bill_item as (

    select * from {{ ref('bill_item') }}

),

final as (

    select
        cast(bill_item_code as {{ dbt.type_string() }}) as bill_item_code,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(sort_order as integer) as sort_order,
        cast(is_revenue as boolean) as is_revenue
    from bill_item

)

select * from final
