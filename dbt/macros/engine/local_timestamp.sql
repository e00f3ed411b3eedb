{# The timestamp written as yyyymmddhhmmss; null where the text is not a time that exists. #}
{% macro local_timestamp(digits) -%}
    {{ return(adapter.dispatch('local_timestamp', 'tollhouse')(digits)) }}
{%- endmacro %}

{# What every engine checks first: lenient parsers take shorter fields and blanks. #}
{% macro local_timestamp_pattern() -%}
    (19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])([0-5][0-9]){2}
{%- endmacro %}

{% macro default__local_timestamp(digits) -%}
    case
        when not {{ matches(digits, local_timestamp_pattern()) }} then null
        when substr({{ digits }}, 7, 2) > '28'
            and cast(substr({{ digits }}, 7, 2) as integer) > extract(
                day from (
                    cast(substr({{ digits }}, 1, 6) || '01' as date)
                    + interval '1 month' - interval '1 day'
                )
            ) then null
        else cast(
            substr({{ digits }}, 1, 8) || ' ' || substr({{ digits }}, 9, 2) || ':'
            || substr({{ digits }}, 11, 2) || ':' || substr({{ digits }}, 13, 2) as timestamp
        )
    end
{%- endmacro %}

{% macro duckdb__local_timestamp(digits) -%}
    case
        when {{ matches(digits, local_timestamp_pattern()) }}
            then try_strptime({{ digits }}, '%Y%m%d%H%M%S')
    end
{%- endmacro %}

{% macro spark__local_timestamp(digits) -%}
    case
        when {{ matches(digits, local_timestamp_pattern()) }}
            then try_to_timestamp({{ digits }}, 'yyyyMMddHHmmss')
    end
{%- endmacro %}
