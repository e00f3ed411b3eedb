{# An aggregate that tells whether the usage that lines are rated from changed: how many there are, and a
   digest of their columns that matter. Of none it is `0/`.
   Arguments: the name of a query of `billing.usage_guide`; a condition that a usage has to meet. #}
{% macro usage_digest(usage, condition='1 = 1') -%}
    {%- set told = [] -%}
    {%- for column in ['usage_id', 'class_key', 'quantity_micro', 'started_at', 'is_split'] -%}
        {%- do told.append(usage ~ '.' ~ column) -%}
    {%- endfor -%}
    {{ joined_text(['count(case when ' ~ condition ~ ' then 1 end)', row_digest(told, condition)], '/') }}
{%- endmacro %}
