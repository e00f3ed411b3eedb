{# Whether the whole text matches a regular expression (a full match on every engine).
   A null gives null. #}
{% macro matches(text, pattern) -%}
    {{ return(adapter.dispatch('matches', 'tollhouse')(text, pattern)) }}
{%- endmacro %}

{% macro default__matches(text, pattern) -%}
    ({{ text }} ~ '^({{ pattern }})$')
{%- endmacro %}

{% macro duckdb__matches(text, pattern) -%}
    regexp_full_match({{ text }}, '{{ pattern }}')
{%- endmacro %}

{% macro spark__matches(text, pattern) -%}
    ({{ text }} rlike '^({{ pattern }})$')
{%- endmacro %}
