-- Grain: one file that usage stands in (file_id), with a digest of all that its usage follows from: the
-- run that judged its records, and what became of those that were put together with others.
-- What reads usage by file knows by it which files to read again.
{{ config(materialized='view') }}
with

mediated_file as (

    select * from {{ ref('mediation__mediated_file') }}

),

repeated as (

    select
        _file_id,
        count(*) as record_count,
        {{ row_digest([
            '_record_number', 'usage_id', 'outcome', 'duration_seconds', 'uplink_octets',
            'downlink_octets', 'cause_for_closing', 'partial_count', 'is_incomplete',
        ]) }} as digest
    from {{ ref('mediation__repeated_record') }}
    group by _file_id

),

final as (

    select
        mediated_file.file_id,
        cast(
            {{ joined_text([
                'mediated_file._batch_id', 'mediated_file.source_id',
                'mediated_file.province_code', 'coalesce(repeated.record_count, 0)',
                'repeated.digest',
            ], '/') }} as {{ dbt.type_string() }}
        ) as digest
    from mediated_file
    left join repeated
        on mediated_file.file_id = repeated._file_id

)

select * from final
