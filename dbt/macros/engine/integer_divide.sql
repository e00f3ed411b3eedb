{# The quotient of two whole numbers, rounded towards zero, exactly.
   Both may have up to 38 digits; no binary floating point is involved. #}
{% macro integer_divide(numerator, denominator) -%}
    {{ return(adapter.dispatch('integer_divide', 'tollhouse')(numerator, denominator)) }}
{%- endmacro %}

{% macro default__integer_divide(numerator, denominator) -%}
    div(cast({{ numerator }} as numeric), cast({{ denominator }} as numeric))
{%- endmacro %}

{% macro duckdb__integer_divide(numerator, denominator) -%}
    {#- Dividing 128-bit numbers takes tens of times longer, and nearly all fit 64 bits. #}
    case
        when cast({{ numerator }} as hugeint) between -9000000000000000000 and 9000000000000000000
            and cast({{ denominator }} as hugeint) <= 9000000000000000000
            then cast(
                cast({{ numerator }} as bigint) // cast({{ denominator }} as bigint) as hugeint
            )
        else cast({{ numerator }} as hugeint) // cast({{ denominator }} as hugeint)
    end
{%- endmacro %}

{% macro spark__integer_divide(numerator, denominator) -%}
    (cast({{ numerator }} as decimal(38, 0)) div cast({{ denominator }} as decimal(38, 0)))
{%- endmacro %}
