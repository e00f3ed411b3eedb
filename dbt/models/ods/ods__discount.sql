-- Grain: one discount, cap or minimum of a plan version (discount_id).
with

discount as (

    select * from {{ source('raw', 'catalogue_discount') }}

),

final as (

    select
        cast(discount_id as {{ dbt.type_string() }}) as discount_id,
        cast(plan_version_id as {{ dbt.type_string() }}) as plan_version_id,
        cast(sequence as integer) as sequence,
        cast(name_zh as {{ dbt.type_string() }}) as name_zh,
        cast(name_en as {{ dbt.type_string() }}) as name_en,
        cast(kind as {{ dbt.type_string() }}) as kind,
        cast(value as numeric(18, 6)) as value,
        cast(bill_item_codes as {{ dbt.type_string() }}) as bill_item_codes,
        cast(_loaded_at as timestamp) as _loaded_at
    from discount

)

select * from final
