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

{# What is rated: only lines of which something changed, and those they share buckets with. #}
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

{# The usage of this slice that is rated: of dirty lines, what began at or after the moment from which they
   are rated. A query to which conditions on `usage` may be added.
   Argument: a relation of usage, of its parts, or of what is made of them. #}
{% macro usage_to_rate(relation) -%}
    select usage.*
    from {{ relation }} as usage
    inner join {{ ref('billing__dirty_line') }} as dirty_line
        on usage.line_key = dirty_line.line_key
        and usage.account_bin = dirty_line.account_bin
        and usage.started_at >= dirty_line.rated_from
    where {{ of_this_slice() }}
{%- endmacro %}

{# Of dirty lines what began before that moment: it stays as it is.
   Argument: a relation of what was made of usage. #}
{% macro what_is_kept(relation) -%}
    select kept.*
    from {{ relation }} as kept
    inner join {{ ref('billing__dirty_line') }} as dirty_line
        on kept.line_key = dirty_line.line_key
        and kept.started_at < dirty_line.rated_from
{%- endmacro %}

{# Of dirty lines what was rated and is rated again. A line may have gone to an account of another bin
   since, so what was rated is known by its line alone. #}
{% macro rows_rated_again() -%}
    usage_id in (
        select rated.usage_id
        from {{ this }} as rated
        inner join {{ ref('billing__dirty_line') }} as dirty_line
            on rated.line_key = dirty_line.line_key
            and rated.started_at >= dirty_line.rated_from
        where dirty_line.is_rated_again
    )
{%- endmacro %}

{# A post-hook: the dirty lines are rated from nothing that is known until they are rated again, so that
   a run that is killed leaves none of which only a part was replaced. #}
{% macro forget_dirty_lines() -%}
    {%- set rated_line = if_built('rated_line') -%}
    {%- if rated_line is not none -%}
    update {{ rated_line }} set digest = null where line_key in (select line_key from {{ this }});
    insert into {{ rated_line }} (line_key, cycle_id, account_id)
    select line_key, cycle_id, account_id
    from {{ ref('billing__rating_input') }}
    where line_key in (select line_key from {{ this }})
        and line_key not in (select line_key from {{ rated_line }})
    {%- endif -%}
{%- endmacro %}
