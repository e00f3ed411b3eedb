{# A whole number of millionths as decimal(18, 6): a multiplication, since division is not exact on
   every engine. #}
{% macro from_micro(micro) -%}
    cast(
        cast({{ micro }} as decimal(24, 0)) * cast('0.000001' as decimal(7, 6)) as decimal(18, 6)
    )
{%- endmacro %}
