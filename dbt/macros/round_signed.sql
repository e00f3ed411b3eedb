{# The quotient of a whole number of either sign and a positive one, rounded by the mode as the
   amount without its sign: a refund mirrors its charge. Arguments as of `divide_rounded`. #}
{% macro round_signed(numerator, denominator, mode="'half_up'") -%}
    {#- Most of what is rounded is 0. #}
    case
        when {{ numerator }} = 0 then 0
        else sign({{ numerator }}) * {{ divide_rounded('abs(' ~ numerator ~ ')', denominator, mode) }}
    end
{%- endmacro %}
