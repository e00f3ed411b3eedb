{# A decimal amount of yuan with at most 6 digits after the point in whole fen, half-up without its
   sign: a refund mirrors its charge. #}
{% macro to_fen(amount) -%}
    cast({{ round_signed(to_micro(amount), '10000') }} as bigint)
{%- endmacro %}

{# Whole fen as decimal(18, 2) yuan: a multiplication, since division is not exact on every engine. #}
{% macro from_fen(fen) -%}
    cast(cast({{ fen }} as decimal(24, 0)) * cast('0.01' as decimal(3, 2)) as decimal(18, 2))
{%- endmacro %}
