{# The cost of a quantity under the step it lies in, over the version's denominator.
   Arguments: the quantity in millionths, not negative; the name of a relation with the columns of
   model `billing__price_step`. 0 where there is no step: nothing is charged there. #}
{% macro step_cost(quantity, step) -%}
    coalesce(
        {{ step }}.base_numerator + {{ step }}.unit_numerator * {{ bigint_divide(
            'least(' ~ quantity ~ ', ' ~ step ~ '.cap_micro) - ' ~ step ~ '.start_micro + ' ~ step ~ '.increment_micro - 1',
            step ~ '.increment_micro'
        ) }},
        0
    )
{%- endmacro %}
