-- Security deposits 押金: money of the customer that the carrier holds and owes him. Each is a fund of
-- its own, kept by the ledger's lines as others are, that pays nothing: it is given back, or what is
-- applied of it becomes a payment and is allocated like one.

insert into billing.ledger_account (ledger_code, account_number, kind, name_zh, name_en) values
    ('security_deposit', '224101', 'liability', '押金', 'Security deposits');
insert into billing.payment_channel (channel, ledger_code) values
    ('security_deposit', 'security_deposit');

alter table billing.reason_code
    drop constraint reason_code_purpose_check,
    add constraint reason_code_purpose_check check (purpose in (
        'credit_note', 'debit_note', 'refund', 'reversal', 'bonus', 'write_off', 'bank', 'deduction',
        'security_deposit', 'security_return'
    ));
insert into billing.reason_code (reason_code, purpose, name_zh, name_en) values
    ('international_roaming', 'security_deposit', '国际漫游押金', 'International roaming'),
    ('handset', 'security_deposit', '终端押金', 'Handset'),
    ('credit', 'security_deposit', '信用押金', 'Credit'),
    ('no_longer_required', 'security_return', '不再需要押金', 'Not required any more'),
    ('handset_returned', 'security_return', '终端已归还', 'Handset given back'),
    ('customer_leaves', 'security_return', '用户离网', 'Customer leaves'),
    ('received_wrongly', 'security_return', '收取有误', 'Received wrongly');

alter table billing.fund
    drop constraint fund_kind_check,
    add constraint fund_kind_check check (kind in ('deposit', 'bonus', 'security_deposit'));
alter table billing.ledger_line
    drop constraint deposit_has_its_fund,
    add constraint deposit_has_its_fund check (
        (ledger_code in ('deposit', 'bonus', 'security_deposit')) = (fund_id is not null)
    );
alter table billing.ledger_entry
    drop constraint ledger_entry_entry_type_check,
    add constraint ledger_entry_entry_type_check check (entry_type in (
        'bill', 'payment', 'allocation', 'refund', 'reversal', 'credit_note', 'debit_note',
        'late_fee', 'bonus_grant', 'bonus_expiry', 'write_off', 'bank_line', 'bank_match',
        'deduction', 'security_deposit', 'security_return'
    ));

create table billing.security_deposit (
    security_deposit_id text primary key, -- and the id of the fund that holds it
    account_id text not null references crm.account,
    subscription_id text references crm.subscription, -- null: for the account
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    amount numeric(18, 2) not null check (amount > 0),
    channel text not null references billing.payment_channel check (channel <> 'security_deposit'),
    reason_code text not null references billing.reason_code,
    reference text,
    received_date date not null,
    idempotency_key text not null unique,
    taken_by text not null check (taken_by <> ''),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index security_deposit_account on billing.security_deposit (account_id);

create table billing.security_return (
    security_return_id text primary key,
    security_deposit_id text not null references billing.security_deposit,
    amount numeric(18, 2) not null check (amount > 0),
    channel text not null references billing.payment_channel check (channel <> 'security_deposit'),
    reason_code text not null references billing.reason_code,
    overdue_amount numeric(18, 2) not null check (overdue_amount >= 0), -- by the account, then
    override_reason text check (override_reason <> ''),
    returned_date date not null,
    idempotency_key text not null unique,
    by_user text not null check (by_user <> ''),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint return_in_arrears_has_its_reason
        check (overdue_amount = 0 or override_reason is not null)
);
create index security_return_deposit on billing.security_return (security_deposit_id);

create trigger append_only before update or delete or truncate on billing.security_deposit
    for each statement execute function control.refuse_change();
create trigger append_only before update or delete or truncate on billing.security_return
    for each statement execute function control.refuse_change();

-- What is applied is a payment that names the deposit it is from; reversed, it is held again.
alter table billing.payment
    add column security_deposit_id text references billing.security_deposit,
    add constraint applied_payment_names_its_deposit
        check ((channel = 'security_deposit') = (security_deposit_id is not null));
create index payment_security_deposit on billing.payment (security_deposit_id)
    where security_deposit_id is not null;

-- Whoever writes: what is held for security neither pays an item nor becomes anybody's income.
create function billing.guard_security() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    select min(format('entry %s is a %s', ent.entry_id, ent.entry_type)) into wrong
    from added as add
    join billing.ledger_entry as ent on ent.entry_id = add.entry_id
    where add.ledger_code = 'security_deposit' and (
        ent.entry_type not in ('security_deposit', 'security_return', 'payment', 'reversal')
        or exists (
            select 1 from billing.ledger_line as lin
            join billing.ledger_account as acc on acc.ledger_code = lin.ledger_code
            where lin.entry_id = ent.entry_id
                and (acc.kind in ('income', 'expense') or lin.ledger_code = 'receivable')
        )
    );
    if wrong is not null then
        raise exception '%: a security deposit is received, given back or applied as a payment',
            wrong
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create trigger guard_security after insert on billing.ledger_line
    referencing new table as added
    for each statement execute function billing.guard_security();

do $$
declare
    name text;
begin
    foreach name in array array['security_deposit', 'security_return'] loop
        execute format(
            'create trigger set_updated_at before update on billing.%I '
            'for each row execute function control.set_updated_at()',
            name
        );
    end loop;
end $$;
