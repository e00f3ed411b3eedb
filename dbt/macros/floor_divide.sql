{# The quotient of a whole number of either sign and a positive one, rounded down. #}
{% macro floor_divide(numerator, denominator) -%}
    case
        when {{ numerator }} >= 0 then {{ integer_divide(numerator, denominator) }}
        else -{{ integer_divide(
            '-(' ~ numerator ~ ') + (' ~ denominator ~ ') - 1', denominator) }}
    end
{%- endmacro %}
