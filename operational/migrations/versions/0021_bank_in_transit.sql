-- Bank money that people enter 银行在途款: statements alone move the account `bank`; what is entered by
-- hand stands beside it until a line of a statement clears it.

insert into billing.ledger_account (ledger_code, account_number, kind, name_zh, name_en) values
    ('bank_clearing', '101204', 'asset', '银行在途款', 'Bank money in transit');
update billing.payment_channel set ledger_code = 'bank_clearing' where channel = 'bank';
insert into billing.accounts_parameter (name, valid_from, value) values
    ('bank_match_days', '2000-01-01', 10);
create index ledger_line_bank_clearing on billing.ledger_line (amount)
    where ledger_code = 'bank_clearing';

-- Which entry a line clears: a payment, a refund, a security deposit that came or was given back.
alter table billing.bank_line
    add column cleared_entry_id bigint unique references billing.ledger_entry,
    drop constraint bank_line_match_rule_check,
    add constraint bank_line_match_rule_check check (
        match_rule in (
            'bill_reference', 'account_reference', 'amount_of_several', 'by_hand', 'in_transit'
        )
    ),
    add constraint what_is_cleared_is_matched
        check (cleared_entry_id is null or state = 'matched'),
    add constraint what_is_in_transit_is_cleared
        check (match_rule is distinct from 'in_transit' or cleared_entry_id is not null);
create index bank_line_account on billing.bank_line (account_id) where account_id is not null;

create or replace function billing.guard_bank_line() returns trigger language plpgsql as $$
declare
    changing constant text[] := array[
        'state', 'match_rule', 'account_id', 'payment_id', 'cleared_entry_id', 'matched_by',
        'matched_at', 'version', 'updated_at'
    ];
begin
    if tg_op = 'DELETE' or (old.state = 'matched' and new.state = 'matched')
        or to_jsonb(new) - changing <> to_jsonb(old) - changing
    then
        raise exception 'bank line % stays as the bank sent it; matched, it only goes back to suspense',
            old.bank_line_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
