{# Values that stand in the warehouse when a model is built, as a list: for what has to be known before
   its SQL can be written, and because of a value that it knows beforehand an engine reads only what it
   needs. Empty where the table is not built yet.
   Arguments: what is selected, the model it is selected from, and, if need be, a condition on its
   rows and how many values there may be at most. #}
{% macro looked_up(selected, model, condition='1 = 1', at_most=none) -%}
    {%- if not execute or load_relation(ref(model)) is none -%}
        {{ return([]) }}
    {%- endif -%}
    {%- set query -%}
        select {{ selected }} from {{ ref(model) }} where {{ condition }}
        {%- if at_most is not none %} limit {{ at_most }}{% endif -%}
    {%- endset -%}
    {{ return(run_query(query).columns[0].values()) }}
{%- endmacro %}
