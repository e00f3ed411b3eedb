{# The E.164 digits of a number as it was dialled or shown; null where it is none.

   Understood: +… and 00… (international), 0 + area code (national), mobile numbers, 400 and 800
   numbers, numbers of 7 or 8 digits in the area of the exchange. What is dialled in front of them to
   choose a carrier, or put there by number portability (macro `without_prefix`), is left out before.
   Short codes, service numbers and message ports stay as they are; so does a number that already
   begins with its country code. What comes out has the length of one (E.164: 15 digits at most).
   The branches stand in the order of how often they are met, and compare whole texts, byte by byte,
   where that says how a number begins: it costs a fifth of cutting it.

   Arguments: expressions of the number without its prefix, of the country code and of the area code
   (null where local numbers are not dialled). #}
{% macro e164(number, country_code, area_code) -%}
    case
        when {{ number }} is null or not {{ matches(number, '[+]?[0-9]+') }} then null
        when length({{ number }}) between 12 and 15 and {{ byte_order(number) }} >= '1'
            then {{ number }}
        when
            length({{ number }}) = 11
            and {{ byte_order(number) }} >= '13' and {{ byte_order(number) }} < '2'
            then {{ country_code }} || {{ number }}
        when substr({{ number }}, 1, 1) = '+'
            then {{ without_trunk_zero('substr(' ~ number ~ ', 2)', country_code) }}
        when substr({{ number }}, 1, 2) = '00'
            then {{ without_trunk_zero('substr(' ~ number ~ ', 3)', country_code) }}
        when substr({{ number }}, 1, 1) = '0'
            then case
                when length({{ number }}) between 9 and 13
                    then {{ country_code }} || substr({{ number }}, 2)
            end
        when length({{ number }}) = 10 and substr({{ number }}, 1, 3) in ('400', '800')
            then {{ country_code }} || {{ number }}
        when
            length({{ number }}) in (7, 8) and substr({{ number }}, 1, 1) between '2' and '8'
            and {{ area_code }} is not null
            then {{ country_code }} || {{ area_code }} || {{ number }}
        when length({{ number }}) > 15 and not {{ is_port(number) }} then null
        else {{ number }}
    end
{%- endmacro %}

{# An international number without the 0 that some write behind their own country's code; null where it
   has not the length of one. #}
{% macro without_trunk_zero(number, country_code) -%}
    case
        when length({{ number }}) not between 7 and 15 or substr({{ number }}, 1, 1) = '0' then null
        when substr({{ number }}, 1, length({{ country_code }}) + 1) = {{ country_code }} || '0'
            then {{ country_code }} || substr({{ number }}, length({{ country_code }}) + 2)
        else {{ number }}
    end
{%- endmacro %}

{# Whether digits begin as service numbers and message ports do, which have up to 20 digits. #}
{% macro is_port(number) -%}
    (
        {{ byte_order(number) }} >= '10' and {{ byte_order(number) }} < '13'
        or {{ byte_order(number) }} >= '95' and {{ byte_order(number) }} < '97'
    )
{%- endmacro %}

{# Whether a number, which must be one, is a short code, a service number or a message port and none
   that can be reached from abroad. Arguments as for `e164`. #}
{% macro is_short_code(number, area_code) -%}
    case
        when
            length({{ number }}) = 11
            and {{ byte_order(number) }} >= '13' and {{ byte_order(number) }} < '2'
            then false
        when {{ byte_order(number) }} < '1' then false
        when
            length({{ number }}) in (7, 8) and substr({{ number }}, 1, 1) between '2' and '8'
            and {{ area_code }} is not null
            then false
        when length({{ number }}) <= 8 then true
        else coalesce({{ is_port(number) }}, false)
    end
{%- endmacro %}
