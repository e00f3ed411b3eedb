{# An aggregate that tells whether a set of rows changed: the sum of a hash of each row, whatever their
   order, as text. Engines hash differently: compare only what one engine made.
   Argument: expressions; a null counts as a value of its own or as empty. #}
{% macro row_digest(expressions) -%}
    {{ return(adapter.dispatch('row_digest', 'tollhouse')(expressions)) }}
{%- endmacro %}

{% macro default__row_digest(expressions) -%}
    cast(sum(cast(hashtextextended({{ joined_text(expressions) }}, 0) as numeric)) as {{ dbt.type_string() }})
{%- endmacro %}

{% macro duckdb__row_digest(expressions) -%}
    cast(sum(hash({{ expressions | join(', ') }})) as {{ dbt.type_string() }})
{%- endmacro %}

{% macro spark__row_digest(expressions) -%}
    cast(sum(cast(xxhash64({{ expressions | join(', ') }}) as decimal(38, 0))) as {{ dbt.type_string() }})
{%- endmacro %}
