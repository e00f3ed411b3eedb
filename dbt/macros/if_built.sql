{# A table of this model's schema as runs before left it, or none where there is none yet. It is found by
   its name and not a reference: models behind this one make it.
   Argument: its name in the warehouse. #}
{% macro if_built(name) -%}
    {%- if not execute or not this -%}
        {{ return(none) }}
    {%- endif -%}
    {{ return(load_relation(this.incorporate(path={'identifier': name}))) }}
{%- endmacro %}
