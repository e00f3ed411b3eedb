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

{% macro rows_of_open_lines() -%}
    line_key in (
        select line_key from {{ ref('billing__cycle_line') }} where cycle_id in {{ open_cycles() }}
    )
{%- endmacro %}

{# Usage in suspense is looked at anew by every run. #}
{% macro rows_without_a_line() -%}
    line_key is null
{%- endmacro %}

{# What is rated again: only lines of which something changed, and those they share buckets with. #}
{% macro dirty_lines() -%}
    (select line_key from {{ ref('billing__dirty_line') }})
{%- endmacro %}

{% macro rows_of_dirty_lines() -%}
    line_key in {{ dirty_lines() }}
{%- endmacro %}
