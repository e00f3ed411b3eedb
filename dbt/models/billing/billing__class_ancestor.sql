-- Grain: one charge class and one class whose price or allowance it may take
-- (charge_class, ancestor_class): itself, the one it goes by before its parent, its parent; for the
-- parent likewise.
with

charge_class as (

    select * from {{ ref('ods__charge_class') }}

),

{%- for steps in range(4) %}

above_{{ steps }} as (

    select
        {%- if steps == 0 %}
        charge_class.charge_class,
        {%- else %}
        below.charge_class,
        {%- endif %}
        charge_class.charge_class as above_class,
        charge_class.before_class,
        charge_class.parent_class
    from charge_class
    {%- if steps > 0 %}
    inner join above_{{ steps - 1 }} as below
        on charge_class.charge_class = below.parent_class
    {%- endif %}

),
{%- endfor %}

reached as (

    {%- for steps in range(4) %}
    select charge_class, above_class as ancestor_class, {{ 2 * steps }} as distance
    from above_{{ steps }}

    union all

    select charge_class, before_class as ancestor_class, {{ 2 * steps + 1 }} as distance
    from above_{{ steps }}
    where before_class is not null
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

),

final as (

    select charge_class, ancestor_class, min(distance) as distance
    from reached
    group by charge_class, ancestor_class

)

select * from final
