{# The key of the call a record is (part of): what identifies it at its source. A record that comes
   in parts and one that comes whole are never the same call; a record without a call reference,
   where the rules let it pass, is like no other.
   Argument: the alias of a relation with the columns of model `mediation__record` that are named
   here. #}
{% macro call_key(record) -%}
    {{ key_of(joined_text([
        record ~ '.source_id', record ~ '.service', record ~ '.direction',
        record ~ '.served_msisdn',
        "coalesce(" ~ record ~ ".call_reference, '#' || cast(" ~ record
            ~ "._record_number as " ~ dbt.type_string() ~ ") || ' of ' || " ~ record
            ~ "._file_id)",
        "case when " ~ record ~ ".partial_sequence > 0 then 'part' end",
    ])) }}
{%- endmacro %}
