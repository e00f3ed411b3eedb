{# A row's part of a whole number that is shared out among rows: its exact part rounded down, and what is
   then over goes one by one to the largest remainders, of equal ones to the first. An expression with
   window functions.
   Arguments, SQL expressions: the whole number, the numerator and the denominator (> 0, the same for
   all rows) of the row's exact part, what the rows have in common (a list), and what orders them. #}
{% macro apportioned(total, numerator, denominator, among, ordered_by) -%}
    {%- set whole = floor_divide(numerator, denominator) -%}
    {{ whole }} + case
        when row_number() over (
            partition by {{ among | join(', ') }}
            order by {{ numerator }} - ({{ whole }}) * {{ denominator }} desc, {{ ordered_by }}
        ) <= {{ total }} - sum({{ whole }}) over (partition by {{ among | join(', ') }}) then 1
        else 0
    end
{%- endmacro %}
