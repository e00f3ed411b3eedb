{# The ranks that allowances are drawn in: 1 to the largest there is (model
   `billing__allowance_access`), for allowances of money or for those of quantities. Each rank is a
   pass of its own. #}
{% macro draw_ranks(is_money) -%}
    {%- set of_unit = "unit = 'money'" if is_money else "unit <> 'money'" -%}
    {%- set largest = looked_up('max(draw_rank)', 'billing__allowance_access', of_unit) | first -%}
    {{ return(range(1, (largest or 1) | int + 1) | list) }}
{%- endmacro %}
