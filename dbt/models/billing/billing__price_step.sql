-- Grain: one step of a usage price (usage_price_id, step_number), in whole millionths of the unit.
with

price_step as (

    select * from {{ ref('ods__price_step') }}

),

final as (

    select
        usage_price_id,
        step_number,
        {%- for bound in ['above', 'start', 'increment'] %}
        {{ quantity_micro(bound ~ '_quantity') }} as {{ bound }}_micro,
        {%- endfor %}
        {%- for bound in ['up_to', 'cap'] %}
        coalesce({{ quantity_micro(bound ~ '_quantity') }}, {{ largest_quantity() }})
            as {{ bound }}_micro,
        {%- endfor %}
        base_numerator,
        unit_numerator
    from price_step

)

select * from final
