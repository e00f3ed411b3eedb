{# The cycles that may still change. What belongs to a final cycle is never computed again. #}
{% macro open_cycles() -%}
    (select cycle_id from {{ ref('ods__billing_cycle') }} where state <> 'final')
{%- endmacro %}
