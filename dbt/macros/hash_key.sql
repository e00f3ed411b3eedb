{# A stable hash of the given expressions, alike on every engine: md5 of the texts joined by '|'.
   A null counts as the empty text. #}
{% macro hash_key(expressions) -%}
    md5({{ joined_text(expressions) }})
{%- endmacro %}
