{# The quotient of a whole number of either sign and a positive one, rounded by the mode as the
   amount without its sign: a refund mirrors its charge. Arguments as of `divide_rounded`. #}
{% macro round_signed(numerator, denominator, mode="'half_up'") -%}
    (sign({{ numerator }}) * {{ divide_rounded('abs(' ~ numerator ~ ')', denominator, mode) }})
{%- endmacro %}
