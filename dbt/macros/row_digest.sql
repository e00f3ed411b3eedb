{# An aggregate that tells whether a set of rows changed: the sum of a hash of each row, whatever their
   order, as text. Engines hash differently: compare only what one engine made.
   Arguments: expressions; a null counts as a value of its own or as empty. And a condition, where only
   rows that meet it count. #}
{% macro row_digest(expressions, condition=none) -%}
    {%- set hashed = row_hash(expressions) -%}
    cast(
        sum({% if condition %}case when {{ condition }} then {{ hashed }} end{% else %}{{ hashed }}{% endif %})
        as {{ dbt.type_string() }}
    )
{%- endmacro %}
