{# A whole quantity rounded up to a multiple of an increment. #}
{% macro round_up_to(quantity, increment) -%}
    cast(
        {{ integer_divide('(' ~ quantity ~ ') + (' ~ increment ~ ') - 1', increment) }}
        * ({{ increment }}) as bigint
    )
{%- endmacro %}
