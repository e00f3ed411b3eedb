{# The passes 1, 2, … in which something is computed, where each pass goes by what the former left:
   as many as the largest `pass_number` of a model; none where it is empty. Looked up when the model
   is built, since each pass is a part of its SQL. #}
{% macro pass_numbers(model) -%}
    {%- set largest = 0 -%}
    {%- if execute and load_relation(ref(model)) is not none -%}
        {%- set found = run_query('select coalesce(max(pass_number), 0) from ' ~ ref(model)) -%}
        {%- set largest = found.columns[0].values()[0] | int -%}
    {%- endif -%}
    {{ return(range(1, largest + 1) | list) }}
{%- endmacro %}
