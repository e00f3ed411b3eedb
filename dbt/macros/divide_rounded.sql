{# The quotient of two non-negative whole numbers, rounded to a whole number.

   The one place where money is rounded: amounts come here as whole numbers of a fixed scale, so the
   result is exact on every engine (docs/DECISIONLOG.md, "Rounding").
   Arguments: numerator (>= 0), denominator (> 0), mode: an SQL expression that gives
   'half_up', 'up' or 'down'. #}
{% macro divide_rounded(numerator, denominator, mode="'half_up'") -%}
    {#- One division: each takes longer than the rest of what is done to an amount. #}
    {%- set raised -%}
    case {{ mode }}
        when 'up' then ({{ numerator }}) + ({{ denominator }}) - 1
        when 'down' then {{ numerator }}
        else 2 * ({{ numerator }}) + ({{ denominator }})
    end
    {%- endset -%}
    {%- set divisor -%}
    case when {{ mode }} in ('up', 'down') then 1 else 2 end * ({{ denominator }})
    {%- endset -%}
    {{ integer_divide(raised, divisor) }}
{%- endmacro %}
