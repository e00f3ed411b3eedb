{# Whether all usage of open cycles has to be guided anew: something that holds for all of it changed,
   or nothing is guided yet. #}
{% macro guides_everything() -%}
    {%- set found = looked_up('count(*)', 'billing__guiding_change', "kind = 'everything'") -%}
    {{ return(found | first != 0) }}
{%- endmacro %}

{# Conditions on usage that has to be guided anew, one after the other: no usage meets two.
   Argument: how many names are listed one by one, since of values that it knows beforehand an engine
   reads only what it needs; of more it is told where they stand. #}
{% macro usage_to_guide(most_listed=1000) -%}
    {%- if guides_everything() -%}
        {{ return(['1 = 1']) }}
    {%- endif -%}
    {%- set files, numbers = changed_names('file', most_listed), changed_names('number', most_listed) -%}
    {{ return([
        '_file_id in ' ~ files, 'served_msisdn in ' ~ numbers ~ ' and _file_id not in ' ~ files,
    ]) }}
{%- endmacro %}

{% macro changed_names(kind, most_listed=1000) -%}
    {%- set of_kind = "kind = '" ~ kind ~ "'" -%}
    {%- set names = looked_up(
        'distinct name', 'billing__guiding_change', of_kind, at_most=most_listed + 1
    ) -%}
    {%- if names | length > most_listed -%}
        {{ return(
            '(select name from ' ~ ref('billing__guiding_change') ~ ' where ' ~ of_kind ~ ')'
        ) }}
    {%- endif -%}
    {%- set quoted = [] -%}
    {%- for name in names -%}
        {%- do quoted.append("'" ~ name | replace("'", "''") ~ "'") -%}
    {%- endfor -%}
    {#- No file or number has no name: where none changed, none is met, and all are not. #}
    {{ return('(' ~ (quoted | join(', ') or "''") ~ ')') }}
{%- endmacro %}

{# What guiding replaces (materialization `replaced_rows`): the rows of open cycles that are guided
   anew, and of usage without a line. #}
{% macro rows_of_changed_files() -%}
    {%- if guides_everything() -%}
    line_key in {{ lines_of_open_cycles() }}
    {%- else -%}
    _file_id in {{ changed_names('file') }}
    and (line_key is null or line_key in {{ lines_of_open_cycles() }})
    {%- endif -%}
{%- endmacro %}

{% macro rows_of_changed_numbers() -%}
    line_key in (select line_key from {{ ref('billing__guiding_change') }} where kind = 'number')
    and line_key in {{ lines_of_open_cycles() }}
{%- endmacro %}

{% macro strays_of_changed_numbers() -%}
    line_key is null
    {%- if not guides_everything() %}
    and stray_msisdn in {{ changed_names('number') }}
    {%- endif -%}
{%- endmacro %}

{# What this run guided, and nothing else but rows of closed cycles. #}
{% macro rows_guided_anew() -%}
    {%- if guides_everything() -%}
    1 = 1
    {%- else -%}
    _file_id in {{ changed_names('file') }}
    or line_key in (select line_key from {{ ref('billing__guiding_change') }} where kind = 'number')
    or stray_msisdn in {{ changed_names('number') }}
    {%- endif -%}
{%- endmacro %}

{# A post-hook: what changed was guided by nothing that is known until it is guided again, so that a run
   that is killed leaves no row that the next does not look for, whatever changes between. #}
{% macro forget_guiding_changes() -%}
    {%- set guided_fact = if_built('guided_fact') -%}
    {%- if guided_fact is not none -%}
    delete from {{ guided_fact }}
    where exists (
        select 1 from {{ this }} as change
        where change.kind = guided_fact.kind and change.name = guided_fact.name
    );
    insert into {{ guided_fact }} (kind, name, line_key) select kind, name, line_key from {{ this }}
    {%- endif -%}
{%- endmacro %}
