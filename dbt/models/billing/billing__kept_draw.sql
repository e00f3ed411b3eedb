-- Grain: one bucket from which dirty lines drew what they keep (bucket_id), and how much.
-- With it rating goes on in `billing.allowance_draw`, which is looked up by name: what is kept there
-- stays as it is.
{%- set allowance_draw = if_built('allowance_draw') %}
-- depends_on: {{ ref('billing__dirty_line') }}
with

{%- if allowance_draw %}

final as (

    select bucket_id, cast(sum(drawn_micro) as bigint) as drawn_micro
    from ({{ what_is_kept(allowance_draw) }}) as allowance_draw
    group by bucket_id

)
{%- else %}

final as (

    select cast(null as {{ dbt.type_string() }}) as bucket_id, cast(0 as bigint) as drawn_micro
    where 1 = 0

)
{%- endif %}

select * from final
