{# Incremental strategy `replace_open_cycles`: everything of the open cycles is replaced, rows that
   vanished included; rows of final cycles are never touched. The model selects open cycles only
   (macro `open_cycles`) and has a column `cycle_id`. #}
{% macro get_incremental_replace_open_cycles_sql(arguments) %}
    {%- set columns = get_quoted_csv(arguments['dest_columns'] | map(attribute='name')) %}
    delete from {{ arguments['target_relation'] }}
    where cycle_id in {{ open_cycles() }};

    insert into {{ arguments['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arguments['temp_relation'] }}
{% endmacro %}
