{# The type of a 128-bit key that is stored and joined in millions; written as 32 hexadecimal digits
   with hyphens wherever it becomes text. #}
{% macro key_type() -%}
    {{ return(adapter.dispatch('key_type', 'tollhouse')()) }}
{%- endmacro %}

{% macro default__key_type() -%}
    uuid
{%- endmacro %}

{% macro spark__key_type() -%}
    string
{%- endmacro %}
