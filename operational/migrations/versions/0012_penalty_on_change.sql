-- What a commitment of before said is what it goes on to say.
alter table catalogue.commitment
    add column penalty_on text not null default 'leave'
        check (penalty_on in ('leave', 'leave_or_change'));
