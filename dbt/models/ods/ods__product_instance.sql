-- Grain: one product instance (product_instance_id).
with

product_instance as (

    select * from {{ source('raw', 'crm_product_instance') }}

),

final as (

    select
        cast(product_instance_id as {{ dbt.type_string() }}) as product_instance_id,
        cast(subscription_id as {{ dbt.type_string() }}) as subscription_id,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(role as {{ dbt.type_string() }}) as role,
        cast(bundle_instance_id as {{ dbt.type_string() }}) as bundle_instance_id,
        {{ utc_timestamp('valid_from') }} as valid_from,
        {{ utc_timestamp('valid_to') }} as valid_to,
        cast(_loaded_at as timestamp) as _loaded_at
    from product_instance

)

select * from final
