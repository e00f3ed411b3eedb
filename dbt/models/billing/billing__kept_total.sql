-- Grain: one price with a running total of the cycle under which a dirty line keeps charges
-- (line_key, usage_price_id), and that total.
-- With it rating goes on in `billing.usage_charge`, which is looked up by name: what is kept there
-- stays as it is.
{%- set usage_charge = if_built('usage_charge') %}
-- depends_on: {{ ref('billing__dirty_line') }}, {{ ref('billing__price_rule') }}
with

{%- if usage_charge %}

final as (

    select line_key, usage_price_id, cast(sum(left_micro) as bigint) as left_micro
    from ({{ what_is_kept(usage_charge) }}) as usage_charge
    where usage_price_id in (
        select usage_price_id from {{ ref('billing__price_rule') }} where is_of_cycle
    )
    group by line_key, usage_price_id

)
{%- else %}

final as (

    select
        cast(null as {{ key_type() }}) as line_key,
        cast(null as {{ dbt.type_string() }}) as usage_price_id,
        cast(0 as bigint) as left_micro
    where 1 = 0

)
{%- endif %}

select * from final
