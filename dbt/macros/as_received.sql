{# What a raw record said: its own text where the format keeps one, else its fields, whatever was
   corrected since. Argument: the name of a query of `raw.usage_record`. #}
{% macro as_received(raw_row) -%}
    {%- set fields = [
        'record_type', 'service', 'direction', 'served_msisdn', 'served_imsi', 'served_imei',
        'other_party', 'started_local', 'utc_offset_minutes', 'duration_seconds', 'uplink_octets',
        'downlink_octets', 'serving_plmn', 'cell_id', 'trunk_group_in', 'trunk_group_out', 'apn',
        'rating_group', 'sp_id', 'content_id', 'cause_for_closing', 'call_reference',
        'partial_sequence',
    ] -%}
    coalesce(
        {{ raw_row }}._raw_record,
        {%- for field in fields %}
        coalesce(
            '{{ field }}=' || cast({{ raw_row }}.{{ field }} as {{ dbt.type_string() }}) || ' ', ''
        ){% if not loop.last %} ||{% endif %}
        {%- endfor %}
    )
{%- endmacro %}
