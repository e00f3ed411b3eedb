{# The moment up to which cycles are closed (UTC): what happened since can not be late. Long ago where
   none is closed. #}
{% macro closed_until() -%}
    {%- set found = looked_up('max(ends_at)', 'billing__billed_cycle', 'is_closed') | first -%}
    cast('{{ found or '1900-01-01 00:00:00' }}' as timestamp)
{%- endmacro %}
