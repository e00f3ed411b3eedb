{# A post-hook: tells the engine's planner what is in the table just made. Nothing to do where the
   engine keeps its own statistics. #}
{% macro refresh_statistics(relation) -%}
    {{ return(adapter.dispatch('refresh_statistics', 'tollhouse')(relation)) }}
{%- endmacro %}

{% macro default__refresh_statistics(relation) -%}
{%- endmacro %}

{% macro postgres__refresh_statistics(relation) -%}
    {%- if config.get('materialized') != 'view' %}analyze {{ relation }}{% endif %}
{%- endmacro %}

{% macro spark__refresh_statistics(relation) -%}
    {%- if config.get('materialized') != 'view' -%}
    analyze table {{ relation }} compute statistics
    {%- endif %}
{%- endmacro %}
