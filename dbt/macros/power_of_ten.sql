{# 10 to a power between 0 and 9, exactly (`power()` is binary floating point). #}
{% macro power_of_ten(exponent) -%}
    case {{ exponent }}
        {%- for digits in range(10) %} when {{ digits }} then {{ 10 ** digits }}{% endfor %}
    end
{%- endmacro %}
