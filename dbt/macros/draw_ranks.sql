{# The ranks that allowances are drawn in: 1 to the largest there is (model
   `billing__allowance_access`), for allowances of money or for those of quantities. Looked up when
   the model is built, since each rank is a pass of its own. #}
{% macro draw_ranks(is_money) -%}
    {%- set largest = 1 -%}
    {%- if execute and load_relation(ref('billing__allowance_access')) is not none -%}
        {%- set found = run_query(
            'select coalesce(max(draw_rank), 1) from ' ~ ref('billing__allowance_access')
            ~ " where unit " ~ ('=' if is_money else '<>') ~ " 'money'"
        ) -%}
        {%- set largest = found.columns[0].values()[0] | int -%}
    {%- endif -%}
    {{ return(range(1, largest + 1) | list) }}
{%- endmacro %}
