-- What an alarm says stands in both languages; those raised before have the English text twice.
alter table control.file_alarm rename column detail to detail_en;
alter table control.file_alarm add column detail_zh text;
update control.file_alarm set detail_zh = detail_en;
alter table control.file_alarm alter column detail_zh set not null;
