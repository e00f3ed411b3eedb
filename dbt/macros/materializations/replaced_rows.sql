{# Materialization `replaced_rows`: a table of which each run replaces some rows and leaves the others.

   In one transaction the rows to be replaced are deleted and those the model selects are inserted,
   so the model may be killed anywhere and run again. The model selects only what takes the place of
   what is deleted, and does not read itself. Which rows those are: the conditions that the macros
   named by the model's config `replaced` (one name, or a list) return. Each is a delete of its own:
   of `a in (…) or b in (…)` some engines make a scan of the keys for every row.

   The insert reads the model's query directly: there is no second copy of the rows on the way. Config
   `many_valued` lists text columns of which nearly every row has another value: an engine may store
   them otherwise than those that repeat. Config `looked_up_by` lists columns by whose values readers find
   their rows: an engine may keep an index of each. Config `stored_in_order` is a column by which the
   rows are put in order, if the engine gains by it. Config `is_sliced`: the rows are inserted one slice
   of the dirty lines after the other, so that memory does not grow with how many there are. #}
{% materialization replaced_rows, default -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and (should_full_refresh() or existing.is_view) -%}
        {%- do adapter.drop_relation(existing) -%}
        {%- set existing = none -%}
    {%- endif -%}
    {%- set in_order = stored_in_order(config.get('stored_in_order')) -%}
    {%- set queries = [compiled_code] -%}
    {%- if config.get('is_sliced') -%}
        {%- if existing is none -%}
            {%- set none_yet = 'select * from (' ~ compiled_code ~ ') as none_yet where 1 = 0' -%}
            {%- call statement('empty') -%}
            {{ create_stored_table_as(target, none_yet, config.get('many_valued', [])) }}
            {%- endcall -%}
            {%- set existing = target -%}
        {%- endif -%}
        {%- set queries = [] -%}
        {%- for slice in slices_of_dirty_lines() -%}
            {%- do queries.append(
                compiled_code | replace(of_this_slice(), 'dirty_line.slice_number = ' ~ slice)
            ) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- call statement('main') -%}
        {%- if existing is none -%}
            {%- set query = 'select * from (' ~ compiled_code ~ ') as unordered ' ~ in_order
                if in_order | trim else compiled_code -%}
            {{ create_stored_table_as(target, query, config.get('many_valued', [])) }}
        {%- else -%}
            {%- set names = get_quoted_csv(
                adapter.get_columns_in_relation(existing) | map(attribute='name') | list
            ) -%}
            {%- set replaced = config.require('replaced') %}
            {%- for condition in ([replaced] if replaced is string else replaced) %}
            delete from {{ target }} where {{ context[condition]() }};
            {%- endfor %}
            {%- for query in queries %}
            insert into {{ target }} ({{ names }})
            select {{ names }} from (
                {{ query }}
            ) as replacing {{ in_order }};
            {%- endfor %}
        {%- endif -%}
    {%- endcall -%}
    {%- set indexes = lookup_indexes(target, config.get('looked_up_by', [])) -%}
    {%- if indexes | trim -%}
        {%- call statement('indexes') -%}{{ indexes }}{%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do persist_docs(target, model) -%}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{%- endmaterialization %}
