-- Grain: one charge class and one class whose price or allowance it may take
-- (charge_class, ancestor_class): itself, its parent, the parent of that.
with

charge_class as (

    select * from {{ ref('ods__charge_class') }}

),

final as (

    select charge_class, charge_class as ancestor_class, 0 as distance
    from charge_class

    {%- for distance in range(1, 4) %}

    union all

    select
        charge_class.charge_class,
        ancestor_{{ distance }}.charge_class as ancestor_class,
        {{ distance }} as distance
    from charge_class
    {%- for step in range(1, distance + 1) %}
    inner join charge_class as ancestor_{{ step }}
        on {{ 'charge_class' if step == 1 else 'ancestor_' ~ (step - 1) }}.parent_class
            = ancestor_{{ step }}.charge_class
    {%- endfor %}
    {%- endfor %}

)

select * from final
