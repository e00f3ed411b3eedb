{# The moment up to which cycles are closed (UTC): what happened since can not be late. Long ago where
   none is closed. Looked up when the model is built: of a value that it knows beforehand an engine
   reads only what it needs. #}
{% macro closed_until() -%}
    {%- set moment = '1900-01-01 00:00:00' -%}
    {%- if execute and load_relation(ref('billing__billed_cycle')) is not none -%}
        {%- set found = run_query(
            'select max(ends_at) from ' ~ ref('billing__billed_cycle') ~ ' where is_closed'
        ) -%}
        {%- set moment = found.columns[0].values()[0] or moment -%}
    {%- endif -%}
    cast('{{ moment }}' as timestamp)
{%- endmacro %}
