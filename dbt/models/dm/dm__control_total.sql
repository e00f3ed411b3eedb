-- Grain: one hop and measure (hop_number, hop, measure).
with

fct_control_total as (

    select * from {{ ref('mid__fct_control_total') }}

),

final as (

    select
        cast(hop_number as integer) as hop_number,
        cast(hop as {{ dbt.type_string() }}) as hop,
        cast(measure as {{ dbt.type_string() }}) as measure,
        cast(unit as {{ dbt.type_string() }}) as unit,
        cast(left_name as {{ dbt.type_string() }}) as left_name,
        cast(left_value as decimal(38, 6)) as left_value,
        cast(right_name as {{ dbt.type_string() }}) as right_name,
        cast(right_value as decimal(38, 6)) as right_value,
        cast(difference as decimal(38, 6)) as difference,
        cast(is_tied as boolean) as is_tied
    from fct_control_total

)

select * from final
