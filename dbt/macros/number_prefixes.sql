{# What may stand before a number (seed `number_prefix`), by its first three digits: a row has all that
   begin so. Of most numbers no prefix begins as they do: one look says so. A subquery to join with.
   Argument: the kinds of prefixes, as SQL texts. #}
{% macro number_prefixes(kinds) -%}
    (
        select
            substr(prefix, 1, 3) as head,
            ',' || {{ dbt.listagg('prefix', "','") }} || ',' as listed
        from {{ ref('number_prefix') }}
        where kind in ({{ kinds }})
        group by substr(prefix, 1, 3)
    )
{%- endmacro %}

{# A number without the longest prefix that it begins with.
   Arguments: the number, and the name of a relation of prefixes that may be its. #}
{% macro without_prefix(number, prefixes) -%}
    case
        when {{ prefixes }}.head is null then {{ number }}
        {%- for length in range(8, 2, -1) %}
        when position(',' || substr({{ number }}, 1, {{ length }}) || ',' in {{ prefixes }}.listed) > 0
            then substr({{ number }}, {{ length + 1 }})
        {%- endfor %}
        else {{ number }}
    end
{%- endmacro %}
