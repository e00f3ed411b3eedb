-- Grain: one customer (customer_id).
with

customer as (

    select * from {{ ref('ods__customer') }}

),

final as (

    select
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(customer_type as {{ dbt.type_string() }}) as customer_type,
        cast(segment as {{ dbt.type_string() }}) as segment,
        cast(province_code as {{ dbt.type_string() }}) as province_code
    from customer

)

select * from final
