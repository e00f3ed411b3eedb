{# The first validation rule that a record breaks of those that mean something; null if there is none.
   Arguments: expressions of two whole numbers in which bit n stands for the nth rule, as in model
   `mediation__record`: the rules it breaks, and the rules of the meaning. #}
{% macro first_broken(breaks, meaning) -%}
    case
        when ({{ breaks }} & {{ meaning }}) = 0 then null
        {%- for rule in validation_rules() %}
        when ({{ breaks }} & {{ meaning }} & {{ 2 ** loop.index0 }}) > 0 then '{{ rule }}'
        {%- endfor %}
    end
{%- endmacro %}
