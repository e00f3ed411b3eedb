{# Materialization `replaced_rows`: a table of which each run replaces some rows and leaves the others.

   In one transaction the rows to be replaced are deleted and those the model selects are inserted,
   so the model may be killed anywhere and run again. The model selects only what takes the place of
   what is deleted, and does not read itself. Which rows those are: the condition that the macro
   named by the model's config `replaced` returns.

   The insert reads the model's query directly: there is no second copy of the rows on the way. Config
   `many_valued` lists text columns of which nearly every row has another value: an engine may store
   them otherwise than those that repeat. #}
{% materialization replaced_rows, default -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and (should_full_refresh() or existing.is_view) -%}
        {%- do adapter.drop_relation(existing) -%}
        {%- set existing = none -%}
    {%- endif -%}
    {%- call statement('main') -%}
        {%- if existing is none -%}
            {{ create_stored_table_as(target, compiled_code, config.get('many_valued', [])) }}
        {%- else -%}
            {%- set names = get_quoted_csv(
                adapter.get_columns_in_relation(existing) | map(attribute='name') | list
            ) -%}
            delete from {{ target }} where {{ context[config.require('replaced')]() }};
            insert into {{ target }} ({{ names }})
            select {{ names }} from (
                {{ compiled_code }}
            ) as replacing
        {%- endif -%}
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do persist_docs(target, model) -%}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}
