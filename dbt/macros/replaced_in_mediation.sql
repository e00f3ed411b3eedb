{# The rows that a mediation run replaces, by what they are about (materialization `replaced_rows`).
   Files that are mediated for the first time have none; so most runs delete next to nothing. #}

{# What is said of the files in hand as a whole. #}
{% macro files_in_hand() -%}
    file_id in (select file_id from {{ ref('mediation__work_file') }})
{%- endmacro %}

{# What came from a file that was mediated before. #}
{% macro rows_of_files_mediated_again() -%}
    _file_id in (select file_id from {{ ref('mediation__work_file') }} where is_again)
{%- endmacro %}

{# What is said of calls that are put together anew. #}
{% macro rows_of_touched_calls() -%}
    call_key in (select call_key from {{ ref('mediation__touched_call') }})
{%- endmacro %}

{# The balance of files of which a record has a new outcome. #}
{% macro balance_of_touched_files() -%}
    file_id in (
        select file_id from {{ ref('mediation__work_file') }}
        union
        select _file_id from {{ ref('mediation__call_record') }}
    )
{%- endmacro %}
