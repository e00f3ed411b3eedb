{# A decimal amount of at most 6 digits after the point as a whole number of millionths. #}
{% macro to_micro(amount) -%}
    cast(cast({{ amount }} as decimal(18, 6)) * 1000000 as decimal(38, 0))
{%- endmacro %}
