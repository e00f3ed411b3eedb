{# A quantity of at most 6 digits after the point as a whole number of millionths of its unit:
   rating works in them, so that fractions of a unit are exact and fast. #}
{% macro quantity_micro(quantity) -%}
    cast(cast({{ quantity }} as decimal(24, 6)) * 1000000 as bigint)
{%- endmacro %}

{# A whole number of millionths of a unit as a quantity. #}
{% macro micro_quantity(micro) -%}
    cast(cast({{ micro }} as decimal(24, 0)) * cast('0.000001' as decimal(7, 6)) as decimal(24, 6))
{%- endmacro %}

{# In millionths, more than any quantity: where a step has no end. #}
{% macro largest_quantity() -%}
    9000000000000000000
{%- endmacro %}
