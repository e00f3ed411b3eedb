{# Whether a code stands in a list of codes with commas between them; a null list holds every code. #}
{% macro is_listed(code, codes) -%}
    (
        {{ codes }} is null
        or {{ dbt.position("',' || " ~ code ~ " || ','", "',' || replace(" ~ codes ~ ", ' ', '') || ','") }} > 0
    )
{%- endmacro %}
