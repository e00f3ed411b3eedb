{# The bin of an account, from 0 to 999: what is kept of usage is written in the order of bins, and accounts
   are rated in it, so that a slice of them is read without the rest.
   Argument: an expression of the account. #}
{% macro account_bin(account_id) -%}
    cast({{ number_of(account_id) }} % 1000 as smallint)
{%- endmacro %}
