-- Grain: one file in one mediation run (batch_id, file_id).
with

mediation_work as (

    select * from {{ source('raw', 'control_mediation_work') }}

),

final as (

    select
        cast(batch_id as {{ dbt.type_string() }}) as batch_id,
        cast(file_id as {{ dbt.type_string() }}) as file_id,
        cast(revision as integer) as revision,
        cast(is_again as boolean) as is_again,
        cast(is_changed as boolean) as is_changed,
        cast(_loaded_at as timestamp) as _loaded_at
    from mediation_work

)

select * from final
