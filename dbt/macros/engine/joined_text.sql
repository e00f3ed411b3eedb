{# The texts of the given expressions with a separator between them; a null counts as empty. #}
{% macro joined_text(expressions, separator='|') -%}
    {{ return(adapter.dispatch('joined_text', 'tollhouse')(expressions, separator)) }}
{%- endmacro %}

{% macro default__joined_text(expressions, separator) -%}
    concat(
        {%- for expression in expressions %}
        cast({{ expression }} as {{ dbt.type_string() }})
        {%- if not loop.last %}, '{{ separator }}',{% endif %}
        {%- endfor %}
    )
{%- endmacro %}

{% macro spark__joined_text(expressions, separator) -%}
    concat_ws(
        '{{ separator }}'
        {%- for expression in expressions %},
        coalesce(cast({{ expression }} as {{ dbt.type_string() }}), '')
        {%- endfor %}
    )
{%- endmacro %}
