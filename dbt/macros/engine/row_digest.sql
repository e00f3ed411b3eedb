{# An aggregate that tells whether a set of rows changed: the sum of a hash of each row, whatever their
   order, as text. Engines hash differently: compare only what one engine made.
   Arguments: expressions; a null counts as a value of its own or as empty. And a condition, where only
   rows that meet it count. #}
{% macro row_digest(expressions, condition=none) -%}
    {%- set row_hash = adapter.dispatch('row_hash', 'tollhouse')(expressions) -%}
    cast(
        sum({% if condition %}case when {{ condition }} then {{ row_hash }} end{% else %}{{ row_hash }}{% endif %})
        as {{ dbt.type_string() }}
    )
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
