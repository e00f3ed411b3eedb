{# The quotient of two bigints, the first non-negative, rounded down, as a bigint: much faster than
   `integer_divide` where both are known to fit. #}
{% macro bigint_divide(numerator, denominator) -%}
    {{ return(adapter.dispatch('bigint_divide', 'tollhouse')(numerator, denominator)) }}
{%- endmacro %}

{% macro default__bigint_divide(numerator, denominator) -%}
    (cast({{ numerator }} as bigint) / cast({{ denominator }} as bigint))
{%- endmacro %}

{% macro duckdb__bigint_divide(numerator, denominator) -%}
    (cast({{ numerator }} as bigint) // cast({{ denominator }} as bigint))
{%- endmacro %}

{% macro spark__bigint_divide(numerator, denominator) -%}
    (cast({{ numerator }} as bigint) div cast({{ denominator }} as bigint))
{%- endmacro %}
