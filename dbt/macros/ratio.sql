{# The quotient of two whole numbers as decimal(18, 6), rounded half-up (away from zero) to `scale`
   digits after the point; null where the denominator is 0.

   Arguments: numerator; denominator (>= 0); scale: digits, 0 to 6. Worked out in whole numbers, so
   that every engine gives the same digits. #}
{% macro ratio(numerator, denominator, scale=6) -%}
    {%- set top = 'cast(' ~ numerator ~ ' as decimal(38, 0))' -%}
    {%- set bottom = 'cast(' ~ denominator ~ ' as decimal(38, 0))' -%}
    case when {{ bottom }} <> 0 then {{ from_micro(
        'sign(' ~ top ~ ') * ' ~ (10 ** (6 - scale)) ~ ' * '
        ~ divide_rounded('abs(' ~ top ~ ') * ' ~ (10 ** scale), bottom)
    ) }} end
{%- endmacro %}
