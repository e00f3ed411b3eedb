{# The quotient of two non-negative whole numbers, rounded to a whole number.

   The one place where money is rounded: amounts come here as whole numbers of a fixed scale, so the
   result is exact on every engine (docs/DECISIONLOG.md, "Rounding").
   Arguments: numerator (>= 0), denominator (> 0), mode: an SQL expression that gives
   'half_up', 'up' or 'down'. #}
{% macro divide_rounded(numerator, denominator, mode="'half_up'") -%}
    case {{ mode }}
        when 'up' then {{ integer_divide(
            '(' ~ numerator ~ ') + (' ~ denominator ~ ') - 1', denominator) }}
        when 'down' then {{ integer_divide(numerator, denominator) }}
        else {{ integer_divide(
            '2 * (' ~ numerator ~ ') + (' ~ denominator ~ ')', '2 * (' ~ denominator ~ ')') }}
    end
{%- endmacro %}
