{# The months from year 0 to a cycle, of its id such as 2026-10: to count months between cycles. #}
{% macro month_number(cycle_id) -%}
    (
        cast(substr({{ cycle_id }}, 1, 4) as integer) * 12
        + cast(substr({{ cycle_id }}, 6, 2) as integer)
    )
{%- endmacro %}
