-- Grain: one customer (customer_id).
with

customer as (

    select * from {{ source('raw', 'crm_customer') }}

),

final as (

    select
        cast(customer_id as {{ dbt.type_string() }}) as customer_id,
        cast(customer_type as {{ dbt.type_string() }}) as customer_type,
        cast(name as {{ dbt.type_string() }}) as name,
        cast(id_number as {{ dbt.type_string() }}) as id_number,
        cast(segment as {{ dbt.type_string() }}) as segment,
        cast(province_code as {{ dbt.type_string() }}) as province_code,
        cast(_loaded_at as timestamp) as _loaded_at
    from customer

)

select * from final
