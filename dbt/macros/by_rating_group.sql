{# The rows of a relation, one for each rating group of a record that has several: with the place of the
   group (from 1), the group (null of octets without one) and its octets. A row without `rating_groups`
   stays one, without these. A subquery to select from.
   Argument: the name of a relation with the column rating_groups, as decoders write it:
   `group:uplink:downlink`, joined by `;`, of at most 99 groups. #}
{% macro by_rating_group(relation) -%}
    (
        select
            {{ relation }}.*,
            place.number + 1 as group_place,
            {%- for field in ['group_number', 'group_uplink_octets', 'group_downlink_octets'] %}
            cast(
                nullif(
                    split_part(
                        split_part({{ relation }}.rating_groups, ';', place.number + 1),
                        ':', {{ loop.index }}
                    ),
                    ''
                ) as bigint
            ) as {{ field }}{% if not loop.last %},{% endif %}
            {%- endfor %}
        from {{ relation }}
        inner join {{ numbers(2) }} as place
            on place.number <= coalesce(
                length({{ relation }}.rating_groups)
                - length(replace({{ relation }}.rating_groups, ';', '')),
                0
            )
    )
{%- endmacro %}
