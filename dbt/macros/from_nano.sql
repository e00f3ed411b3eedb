{# A whole number of thousand-millionths as decimal(18, 9). #}
{% macro from_nano(nano) -%}
    cast(
        cast({{ nano }} as decimal(18, 0)) * cast('0.000000001' as decimal(10, 9)) as decimal(18, 9)
    )
{%- endmacro %}
