-- Grain: one component of a version of a bundle (plan_version_id, offering_id).
with

bundle_component as (

    select * from {{ source('raw', 'catalogue_bundle_component') }}

),

final as (

    select
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(offering_id as {{ dbt.type_string() }}) as offering_id,
        cast(fee_rule as {{ dbt.type_string() }}) as fee_rule,
        cast(fee_amount as numeric(18, 6)) as fee_amount,
        cast(_loaded_at as timestamp) as _loaded_at
    from bundle_component

)

select * from final
