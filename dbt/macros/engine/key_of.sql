{# The 128-bit key of a text: its MD5, the same on every engine. #}
{% macro key_of(text) -%}
    {{ return(adapter.dispatch('key_of', 'tollhouse')(text)) }}
{%- endmacro %}

{% macro default__key_of(text) -%}
    cast(md5({{ text }}) as {{ key_type() }})
{%- endmacro %}

{# Octets are a key sooner than hexadecimal digits are. #}
{% macro duckdb__key_of(text) -%}
    cast(unhex(md5({{ text }})) as {{ key_type() }})
{%- endmacro %}
