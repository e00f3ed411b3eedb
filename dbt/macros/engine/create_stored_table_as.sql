{# The statements that make a table of a query and say how its columns are stored.

   DuckDB would try every way of packing a text column on every block, which takes longer than all
   the rest of the write; it is told: a dictionary where values repeat, none where they do not.
   Arguments: the table, the query, and the names of text columns of which nearly every row has
   another value. #}
{% macro create_stored_table_as(table, query, many_valued) -%}
    {{ return(adapter.dispatch('create_stored_table_as', 'tollhouse')(table, query, many_valued)) }}
{%- endmacro %}

{% macro default__create_stored_table_as(table, query, many_valued) -%}
    {{ create_table_as(False, table, query) }}
{%- endmacro %}

{% macro duckdb__create_stored_table_as(table, query, many_valued) -%}
    {%- set columns = get_column_schema_from_query(query) -%}
    create table {{ table }} (
        {%- for column in columns %}
        {{ adapter.quote(column.name) }} {{ column.data_type }}
        {%- if column.is_string() %} using compression
            {{- ' uncompressed' if column.name in many_valued else ' dict_fsst' }}
        {%- endif %}
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    );
    insert into {{ table }}
    {{ query }}
{%- endmacro %}
