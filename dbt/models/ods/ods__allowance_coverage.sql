-- Grain: one charge class and band an allowance covers (allowance_id, charge_class, band).
with

allowance_coverage as (

    select * from {{ source('raw', 'catalogue_allowance_coverage') }}

),

final as (

    select
        cast(allowance_id as {{ dbt.type_string() }}) as allowance_id,
        cast(charge_class as {{ dbt.type_string() }}) as charge_class,
        cast(band as {{ dbt.type_string() }}) as band,
        cast(_loaded_at as timestamp) as _loaded_at
    from allowance_coverage

)

select * from final
