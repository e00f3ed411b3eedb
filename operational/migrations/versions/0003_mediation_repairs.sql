-- What a file says depends on how it was decoded, so a correction is of the records of one landing.
-- Of those made before this column was there, the ones made since the file was last landed are.
alter table control.correction add column land_batch_id text;
alter table control.correction disable trigger append_only;
update control.correction as cor set land_batch_id = fil.batch_id
from control.usage_file as fil
where fil.file_id = cor.file_id and cor.corrected_at >= fil.landed_at;
alter table control.correction enable trigger append_only;

-- A run whose process died without saying so: the next run finds that it is gone.
alter table control.pipeline_run drop constraint pipeline_run_status_check;
alter table control.pipeline_run add constraint pipeline_run_status_check
    check (status in ('running', 'succeeded', 'failed', 'killed'));
create index pipeline_run_running on control.pipeline_run (started_at) where status = 'running';

-- The archived original of a collected file cannot be read at the moment.
alter table control.file_alarm drop constraint file_alarm_kind_check;
alter table control.file_alarm add constraint file_alarm_kind_check
    check (
        kind in ('late', 'missing', 'gap', 'out_of_order', 'quarantined', 'original_unavailable')
    );
