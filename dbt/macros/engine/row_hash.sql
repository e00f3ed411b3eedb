{# A hash of one row, as a whole number that may be summed. Engines hash differently.
   Argument: expressions; a null counts as a value of its own or as empty. #}
{% macro row_hash(expressions) -%}
    {{ return(adapter.dispatch('row_hash', 'tollhouse')(expressions)) }}
{%- endmacro %}

{% macro default__row_hash(expressions) -%}
    cast(hashtextextended({{ joined_text(expressions) }}, 0) as numeric)
{%- endmacro %}

{% macro duckdb__row_hash(expressions) -%}
    hash({{ expressions | join(', ') }})
{%- endmacro %}

{% macro spark__row_hash(expressions) -%}
    cast(xxhash64({{ expressions | join(', ') }}) as decimal(38, 0))
{%- endmacro %}
