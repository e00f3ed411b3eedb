{# How long the parts of a call that are missing are waited for, from the arrival of the last one. #}
{% macro long_call_timeout() -%}
    {{ var('long_call_timeout_hours', 48) }} * interval '1 hour'
{%- endmacro %}
