{# A text to sort by its bytes, whatever the order of the database's language is. #}
{% macro byte_order(text) -%}
    {{ return(adapter.dispatch('byte_order', 'tollhouse')(text)) }}
{%- endmacro %}

{% macro default__byte_order(text) -%}
    {{ text }}
{%- endmacro %}

{% macro postgres__byte_order(text) -%}
    {{ text }} collate "C"
{%- endmacro %}
