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

{% macro lines_of_open_cycles() -%}
    (select line_key from {{ ref('billing__cycle_line') }} where cycle_id in {{ open_cycles() }})
{%- endmacro %}

{# What is rated again: only lines of which something changed, and those they share buckets with. #}
{% macro dirty_lines() -%}
    (select line_key from {{ ref('billing__dirty_line') }})
{%- endmacro %}

{# A condition on `billing__dirty_line`: materialization `replaced_rows` puts one slice after the other
   in its place (config `is_sliced`). As it stands, it holds for all of them. #}
{% macro of_this_slice() -%}
    /* of this slice */ 1 = 1
{%- endmacro %}

{% macro bins_of_this_slice() -%}
    (select account_bin from {{ ref('billing__dirty_line') }} as dirty_line where {{ of_this_slice() }})
{%- endmacro %}

{# The slices there are. #}
{% macro slices_of_dirty_lines() -%}
    {{ return(looked_up('distinct slice_number', 'billing__dirty_line') | sort) }}
{%- endmacro %}

{% macro rows_of_dirty_lines() -%}
    line_key in {{ dirty_lines() }}
{%- endmacro %}

{# Dirty lines of which what is rated until some moment stays, and what came after it is rated. #}
{% macro lines_that_keep() -%}
    (select line_key from {{ ref('billing__dirty_line') }} where kept_until is not null)
{%- endmacro %}

{# The usage of this slice that is rated: of lines that keep what is rated until some moment, what began
   later. A query to which conditions on `usage` may be added.
   Argument: a relation of usage, or of its parts. #}
{% macro usage_to_rate(relation) -%}
    select usage.*
    from {{ relation }} as usage
    inner join {{ ref('billing__dirty_line') }} as dirty_line
        on usage.line_key = dirty_line.line_key
        and usage.account_bin = dirty_line.account_bin
        and usage.started_at
        > coalesce(dirty_line.kept_until, cast('1900-01-01 00:00:00' as timestamp))
    where {{ of_this_slice() }}
{%- endmacro %}

{# Of a dirty line that keeps what is rated until some moment there is nothing to replace. #}
{% macro rows_of_lines_rated_anew() -%}
    line_key in (select line_key from {{ ref('billing__dirty_line') }} where kept_until is null)
{%- endmacro %}

{# A post-hook: the dirty lines are rated from nothing that is known until they are rated again, so that
   a run that is killed leaves none of which only a part was replaced. #}
{% macro forget_dirty_lines() -%}
    {%- set rated_line = load_relation(this.incorporate(path={'identifier': 'rated_line'})) -%}
    {%- if rated_line is not none -%}
    update {{ rated_line }} set digest = null where line_key in (select line_key from {{ this }})
    {%- endif -%}
{%- endmacro %}
