{# The clause that puts rows in order before they are written, where readers gain by it: DuckDB keeps the
   least and greatest of every block, and passes over those in which nothing can be.
   Argument: a column, or none. #}
{% macro stored_in_order(column) -%}
    {{ return(adapter.dispatch('stored_in_order', 'tollhouse')(column)) }}
{%- endmacro %}

{% macro default__stored_in_order(column) -%}
{%- endmacro %}

{% macro duckdb__stored_in_order(column) -%}
    {% if column %}order by {{ column }}{% endif %}
{%- endmacro %}
