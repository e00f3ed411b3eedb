{# The minutes ahead of UTC in an offset like +0800; null where the text is no offset. #}
{% macro utc_offset_minutes(text) -%}
    case
        when {{ matches(text, '[+-](0[0-9]|1[0-4])[0-5][0-9]') }} then
            (
                cast(substr({{ text }}, 2, 2) as integer) * 60
                + cast(substr({{ text }}, 4, 2) as integer)
            ) * case when substr({{ text }}, 1, 1) = '-' then -1 else 1 end
    end
{%- endmacro %}
