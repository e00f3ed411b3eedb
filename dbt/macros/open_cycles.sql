{# The cycles whose figures may still change. What was approved is what becomes final: neither is
   computed again. #}
{% macro open_cycles() -%}
    (select cycle_id from {{ ref('ods__billing_cycle') }} where state not in ('approved', 'final'))
{%- endmacro %}

{# What a run of rating or billing replaces (materialization `replaced_rows`): everything of the open
   cycles, rows that vanished included; rows of final cycles are never touched. #}
{% macro rows_of_open_cycles() -%}
    cycle_id in {{ open_cycles() }}
{%- endmacro %}
