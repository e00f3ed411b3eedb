{# A decimal amount of at most 6 digits after the point as a whole number of millionths. In
   decimal(24, 6), since DuckDB multiplies decimals of up to 18 digits in 18 digits: a charge of a
   million would be out of range. #}
{% macro to_micro(amount) -%}
    cast(cast({{ amount }} as decimal(24, 6)) * 1000000 as decimal(38, 0))
{%- endmacro %}
