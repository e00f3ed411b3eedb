{# A stable hash of the given expressions, alike on every engine: md5 of the texts joined by '|'.
   A null counts as the empty text. #}
{% macro hash_key(expressions) -%}
    md5(
        {%- for expression in expressions %}
        coalesce(cast({{ expression }} as {{ dbt.type_string() }}), '')
        {%- if not loop.last %} || '|' || {% endif %}
        {%- endfor %}
    )
{%- endmacro %}
