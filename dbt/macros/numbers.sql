{# The whole numbers from 0 to below 10 to the power `digits`: a subquery with the column `number`. #}
{% macro numbers(digits) -%}
    (
        select
            {%- for place in range(digits) %}
            digit_{{ place }}.digit * {{ 10 ** place }}{% if not loop.last %} +{% endif %}
            {%- endfor %} as number
        from
            {%- for place in range(digits) %}
            {% if not loop.first %}cross join {% endif -%}
            ({% for digit in range(10) %}select {{ digit }} as digit
            {%- if not loop.last %} union all {% endif %}{% endfor %}) as digit_{{ place }}
            {%- endfor %}
    )
{%- endmacro %}
