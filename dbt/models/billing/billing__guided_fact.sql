-- Grain: one thing that usage was last guided by (kind, name, line_key), with its digest then.
-- Written when usage is guided: where a run ends before, what it had in hand has no digest, and is
-- guided again.
-- depends_on: {{ ref('billing__usage_guide') }}
with

final as (

    select
        kind, name, line_key,
        case when digest <> 'changing' then digest end as digest
    from {{ ref('billing__guiding_fact') }}

)

select * from final
