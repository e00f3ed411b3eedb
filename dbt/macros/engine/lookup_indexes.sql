{# The statements that make an index of each of the given columns of a table, where it has none.
   Nothing where the engine finds rows by their values without (DuckDB keeps the least and greatest
   of every block). Arguments: the table, the names of columns. #}
{% macro lookup_indexes(relation, columns) -%}
    {{ return(adapter.dispatch('lookup_indexes', 'tollhouse')(relation, columns)) }}
{%- endmacro %}

{% macro default__lookup_indexes(relation, columns) -%}
{%- endmacro %}

{% macro postgres__lookup_indexes(relation, columns) -%}
    {%- for column in columns %}
    create index if not exists {{ relation.identifier }}_{{ column }}
        on {{ relation }} ({{ column }});
    {%- endfor %}
{%- endmacro %}
