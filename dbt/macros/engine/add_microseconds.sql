{# A timestamp so many whole microseconds later. #}
{% macro add_microseconds(moment, microseconds) -%}
    {{ return(adapter.dispatch('add_microseconds', 'tollhouse')(moment, microseconds)) }}
{%- endmacro %}

{% macro default__add_microseconds(moment, microseconds) -%}
    ({{ moment }} + ({{ microseconds }}) * interval '1 microsecond')
{%- endmacro %}

{% macro duckdb__add_microseconds(moment, microseconds) -%}
    ({{ moment }} + to_microseconds({{ microseconds }}))
{%- endmacro %}

{% macro spark__add_microseconds(moment, microseconds) -%}
    timestamp_micros(unix_micros({{ moment }}) + ({{ microseconds }}))
{%- endmacro %}
