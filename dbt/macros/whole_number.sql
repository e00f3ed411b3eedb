{# The non-negative whole number of at most 18 digits in a text; null where it is none. #}
{% macro whole_number(text) -%}
    case when {{ matches(text, '[0-9]{1,18}') }} then cast({{ text }} as bigint) end
{%- endmacro %}
