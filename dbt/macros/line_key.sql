{# The key of a line in a cycle (model `billing__cycle_line`).
   Arguments: expressions of the subscription and of the cycle. #}
{% macro line_key(subscription_id, cycle_id) -%}
    cast({{ hash_key([subscription_id, cycle_id]) }} as {{ key_type() }})
{%- endmacro %}
