{# An aggregate: the texts of the rows of a group joined by a separator, in the order of an expression;
   its null comes last. #}
{% macro aggregated_text(text, separator, ordered_by) -%}
    {{ return(adapter.dispatch('aggregated_text', 'tollhouse')(text, separator, ordered_by)) }}
{%- endmacro %}

{% macro default__aggregated_text(text, separator, ordered_by) -%}
    string_agg({{ text }}, '{{ separator }}' order by {{ ordered_by }} nulls last)
{%- endmacro %}
