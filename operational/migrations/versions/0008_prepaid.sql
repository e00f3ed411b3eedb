-- Prepaid 预付费: charges are taken from the balance while they arise. What was deducted stands in the
-- ledger and, by cycle and bill item, here; the final bill takes it from there instead of claiming it.

insert into billing.ledger_account (ledger_code, account_number, kind, name_zh, name_en) values
    ('prepaid_deducted', '220302', 'liability', '已扣预付费用', 'Deducted, not billed yet');

alter table billing.ledger_entry
    drop constraint ledger_entry_entry_type_check,
    add constraint ledger_entry_entry_type_check check (entry_type in (
        'bill', 'payment', 'allocation', 'refund', 'reversal', 'credit_note', 'debit_note',
        'late_fee', 'bonus_grant', 'bonus_expiry', 'write_off', 'bank_line', 'bank_match',
        'deduction'
    ));
alter table billing.open_item
    drop constraint open_item_document_type_check,
    add constraint open_item_document_type_check
        check (document_type in ('bill', 'debit_note', 'late_fee', 'deduction'));

alter table billing.reason_code
    drop constraint reason_code_purpose_check,
    add constraint reason_code_purpose_check check (purpose in (
        'credit_note', 'debit_note', 'refund', 'reversal', 'bonus', 'write_off', 'bank', 'deduction'
    ));
-- Given by the product, not chosen by people.
insert into billing.reason_code (reason_code, purpose, name_zh, name_en, is_active) values
    ('charges_rose', 'deduction', '费用增加', 'Charges rose', false),
    ('charges_fell', 'deduction', '重新批价后费用减少', 'Charges fell when rated again', false),
    ('final_bill', 'deduction', '定稿帐单的差额', 'Difference to the final bill', false);

-- A balance at or below the first: the customer is told; at or below the second: barred.
insert into billing.accounts_parameter (name, valid_from, value) values
    ('low_balance_amount', '2000-01-01', 10),
    ('barring_balance_amount', '2000-01-01', 0);

-- billing.deduction: one difference that was posted -------------------------------------------------

create table billing.deduction (
    account_id text not null references crm.account,
    cycle_id text not null references billing.billing_cycle,
    sequence integer not null check (sequence >= 1), -- of postings for the account and cycle
    bill_item_code text not null,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    amount numeric(18, 2) not null check (amount <> 0), -- negative: given back
    total_amount numeric(18, 2) not null, -- what is deducted after it
    reason_code text not null references billing.reason_code,
    entry_id bigint not null references billing.ledger_entry,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (account_id, cycle_id, sequence, bill_item_code)
);
create index deduction_cycle on billing.deduction (cycle_id);
create trigger append_only before update or delete or truncate on billing.deduction
    for each statement execute function control.refuse_change();

-- Each total is the former one and the difference: nothing is deducted twice, whoever writes.
create function billing.check_deductions() returns trigger language plpgsql as $$
declare
    wrong record;
begin
    select add.account_id, add.cycle_id, add.bill_item_code into wrong
    from added as add
    where add.total_amount <> (
        select sum(ded.amount) from billing.deduction as ded
        where ded.account_id = add.account_id and ded.cycle_id = add.cycle_id
            and ded.bill_item_code = add.bill_item_code and ded.sequence <= add.sequence
    )
    limit 1;
    if found then
        raise exception 'account %, cycle %, %: the deducted total is not the sum of deductions',
            wrong.account_id, wrong.cycle_id, wrong.bill_item_code
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create trigger check_deductions after insert on billing.deduction
    referencing new table as added
    for each statement execute function billing.check_deductions();

-- Low balances: a case from the first notice until there is enough money again ----------------------

create table billing.balance_case (
    balance_case_id bigint generated always as identity primary key,
    account_id text not null references crm.account,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    opened_date date not null,
    barred_date date check (barred_date >= opened_date),
    closed_date date check (closed_date >= opened_date),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index balance_case_open on billing.balance_case (account_id)
    where closed_date is null;

-- What the customer is to be told, once a case.
create table billing.balance_notice (
    balance_case_id bigint not null references billing.balance_case,
    kind text not null check (kind in ('low', 'barred', 'restored')),
    notice_date date not null,
    balance_amount numeric(18, 2) not null,
    threshold_amount numeric(18, 2) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (balance_case_id, kind)
);
create trigger append_only before update or delete or truncate on billing.balance_notice
    for each statement execute function control.refuse_change();

alter table billing.service_order
    alter column case_id drop not null,
    add column balance_case_id bigint references billing.balance_case,
    add constraint order_has_one_case check (num_nonnulls(case_id, balance_case_id) = 1),
    add constraint order_is_given_once_a_balance_case
        unique (balance_case_id, subscription_id, action);

-- What bills say of notes, late fees, bonus money and write-offs -----------------------------------

alter table billing.bill
    add column adjustment_amount numeric(18, 2) not null default 0, -- positive is owed
    drop constraint bill_balances,
    add constraint bill_balances check (
        closing_amount = opening_amount + charge_amount + adjustment_amount - payment_amount
    );

-- What an entry changes of what an account owes less the money it has, besides bills and payments,
-- which the warehouse knows itself.
create view billing.adjustment as
select
    ent.entry_id, ent.account_id, ent.province_code,
    coalesce(org.entry_type, ent.entry_type) as adjustment_type, ent.posted_date,
    sum(lin.amount) as amount
from billing.ledger_entry as ent
join billing.ledger_line as lin on lin.entry_id = ent.entry_id
left join billing.ledger_entry as org on org.entry_id = ent.reverses_entry_id
where coalesce(org.entry_type, ent.entry_type) in (
        'credit_note', 'debit_note', 'late_fee', 'bonus_grant', 'bonus_expiry', 'write_off'
    )
    and (lin.open_item_id is not null or lin.fund_id is not null)
group by ent.entry_id, org.entry_type;

-- Members of groups and households: who may be paid for -------------------------------------------

alter table crm.customer
    add column parent_customer_id text references crm.customer
        check (parent_customer_id <> customer_id);
create index customer_parent on crm.customer (parent_customer_id)
    where parent_customer_id is not null;

create function crm.guard_customer_parent() returns trigger language plpgsql as $$
begin
    if (select cus.customer_type from crm.customer as cus
        where cus.customer_id = new.parent_customer_id) = 'individual'
    then
        raise exception 'customer % is no group or household: it has no members',
            new.parent_customer_id
            using errcode = 'restrict_violation';
    end if;
    if exists (
        with recursive above as (
            select new.parent_customer_id as customer_id
            union
            select cus.parent_customer_id from crm.customer as cus
            join above on above.customer_id = cus.customer_id
        )
        select 1 from above where above.customer_id = new.customer_id
    ) then
        raise exception 'customer % is above % already', new.customer_id, new.parent_customer_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger guard_parent before insert or update of parent_customer_id on crm.customer
    for each row when (new.parent_customer_id is not null)
    execute function crm.guard_customer_parent();

do $$
declare
    name text;
begin
    foreach name in array array['deduction', 'balance_case', 'balance_notice'] loop
        execute format(
            'create trigger set_updated_at before update on billing.%I '
            'for each row execute function control.set_updated_at()',
            name
        );
    end loop;
end $$;
