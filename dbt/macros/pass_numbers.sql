{# The passes 1, 2, … in which something is computed, where each pass goes by what the former left:
   as many as the largest `pass_number` of a model; none where it is empty. Each pass is a part of the
   SQL. #}
{% macro pass_numbers(model) -%}
    {%- set largest = looked_up('max(pass_number)', model) | first -%}
    {{ return(range(1, (largest or 0) | int + 1) | list) }}
{%- endmacro %}
