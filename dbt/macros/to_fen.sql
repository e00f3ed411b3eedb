{# A decimal amount of yuan in whole fen, half-up without its sign: a refund mirrors its charge. Engines
   round decimals so, and exactly. #}
{% macro to_fen(amount) -%}
    cast(round({{ amount }}, 2) * 100 as bigint)
{%- endmacro %}

{# Whole fen as decimal(18, 2) yuan: a multiplication, since division is not exact on every engine. #}
{% macro from_fen(fen) -%}
    cast(cast({{ fen }} as decimal(24, 0)) * cast('0.01' as decimal(3, 2)) as decimal(18, 2))
{%- endmacro %}
