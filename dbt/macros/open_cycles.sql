{# The cycles whose figures may still change. What was approved is what becomes final: neither is
   computed again. #}
{% macro open_cycles() -%}
    (select cycle_id from {{ ref('ods__billing_cycle') }} where state not in ('approved', 'final'))
{%- endmacro %}
