{# The texts of the given expressions with a separator between them; a null counts as empty. #}
{% macro joined_text(expressions, separator='|') -%}
    concat_ws(
        '{{ separator }}'
        {%- for expression in expressions %},
        coalesce(cast({{ expression }} as {{ dbt.type_string() }}), '')
        {%- endfor %}
    )
{%- endmacro %}
