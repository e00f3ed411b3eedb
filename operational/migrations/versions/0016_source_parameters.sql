-- What a list of sources says of one, but for where its credentials are: whoever asks why a file was taken or left
-- has to see by which settings. A source that was there before has no file name until it is registered again.
alter table control.source
    add column file_name text,
    add column sender text,
    add column settle_minutes integer not null default 10 check (settle_minutes >= 0),
    add column done_marker text,
    add column archive_days integer check (archive_days > 0);
