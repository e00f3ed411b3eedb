-- Whether a name came before is asked for each file that comes: without an index of the whole journal.
create index usage_file_name on control.usage_file (source_id, file_name);
