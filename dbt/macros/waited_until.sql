{# Until when the parts of calls that are missing are waited for because of a file with others: as long
   as its source asked for when it was landed. Argument: the name of a relation of files. #}
{% macro waited_until(file) -%}
    {{ file }}.received_at + {{ file }}.long_call_timeout_hours * interval '1 hour'
{%- endmacro %}
