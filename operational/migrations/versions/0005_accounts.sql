-- Accounts receivable 帐务: a ledger that only grows and always balances, what is open on it, where
-- money comes from, and what happens to those who do not pay. Rules that must hold whoever writes
-- stand here.

-- Parameters -------------------------------------------------------------------------------------

create table billing.accounts_parameter (
    name text not null,
    valid_from date not null,
    value numeric(18, 6) not null check (value >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (name, valid_from)
);
insert into billing.accounts_parameter (name, valid_from, value) values
    ('late_fee_rate_per_day', '2000-01-01', 0.003),
    ('payment_term_days', '2000-01-01', 20);

create function billing.accounts_parameter_on(wanted text, on_day date) returns numeric
language sql stable as $$
    select par.value from billing.accounts_parameter as par
    where par.name = wanted and par.valid_from <= on_day
    order by par.valid_from desc limit 1
$$;

create table billing.ledger_account (
    ledger_code text primary key check (ledger_code ~ '^[a-z][a-z_]*$'),
    account_number text not null unique,
    kind text not null check (kind in ('asset', 'liability', 'income', 'expense')),
    name_zh text not null,
    name_en text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
insert into billing.ledger_account (ledger_code, account_number, kind, name_zh, name_en) values
    ('cash', '1001', 'asset', '库存现金', 'Cash at counters'),
    ('bank', '1002', 'asset', '银行存款', 'Bank'),
    ('card_clearing', '101201', 'asset', '缴费卡在途', 'Card clearing'),
    ('online_clearing', '101202', 'asset', '网上支付在途', 'Online clearing'),
    ('agent_clearing', '101203', 'asset', '代收网点在途', 'Agent clearing'),
    ('receivable', '1122', 'asset', '应收帐款', 'Receivables'),
    ('unbilled_receivable', '112209', 'asset', '应收未出帐收入', 'Unbilled receivables'),
    ('deposit', '2203', 'liability', '预存款', 'Deposits'),
    ('bonus', '220301', 'liability', '赠款', 'Bonus money'),
    ('tax_payable', '2221', 'liability', '应交税费', 'Tax payable'),
    ('suspense', '2241', 'liability', '待清分款', 'Suspense'),
    ('revenue', '6001', 'income', '主营业务收入', 'Revenue'),
    ('late_fee_income', '6301', 'income', '违约金收入', 'Late fee income'),
    ('bonus_granted', '6601', 'expense', '赠款支出', 'Bonus granted'),
    ('bank_charge', '6603', 'expense', '银行手续费', 'Bank charges'),
    ('bad_debt', '6702', 'expense', '坏帐损失', 'Bad debt');

-- What a bill item is to accounting: in which order it is paid, and to which ledger account it
-- goes. Items without a rule: priority 50, revenue.
create table billing.item_rule (
    bill_item_code text primary key,
    priority integer not null,
    ledger_code text not null references billing.ledger_account,
    accrues_late_fee boolean not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
insert into billing.item_rule (bill_item_code, priority, ledger_code, accrues_late_fee) values
    ('rent', 10, 'revenue', true), ('voice', 20, 'revenue', true), ('sms', 30, 'revenue', true),
    ('data', 40, 'revenue', true), ('vas', 50, 'revenue', true),
    ('international', 60, 'revenue', true), ('roaming', 70, 'revenue', true),
    ('one_off', 74, 'revenue', true), ('minimum', 76, 'revenue', true),
    ('penalty', 78, 'revenue', true), ('tax', 80, 'tax_payable', true),
    ('late_fee', 90, 'late_fee_income', false);

create table billing.payment_channel (
    channel text primary key,
    ledger_code text not null references billing.ledger_account,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
insert into billing.payment_channel (channel, ledger_code) values
    ('counter', 'cash'), ('bank', 'bank'), ('card', 'card_clearing'),
    ('agent', 'agent_clearing'), ('online', 'online_clearing');

create table billing.reason_code (
    reason_code text primary key,
    purpose text not null check (
        purpose in ('credit_note', 'debit_note', 'refund', 'reversal', 'bonus', 'write_off', 'bank')
    ),
    name_zh text not null,
    name_en text not null,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
insert into billing.reason_code (reason_code, purpose, name_zh, name_en) values
    ('disputed_usage', 'credit_note', '用户对话单有异议', 'Disputed usage'),
    ('wrong_tariff', 'credit_note', '资费错误', 'Wrong tariff'),
    ('service_outage', 'credit_note', '网络故障补偿', 'Service outage'),
    ('late_fee_waived', 'credit_note', '减免违约金', 'Late fee waived'),
    ('missed_charge', 'debit_note', '漏计费用', 'Missed charge'),
    ('late_usage', 'debit_note', '迟到话单补收', 'Late usage'),
    ('equipment', 'debit_note', '设备赔偿', 'Equipment not returned'),
    ('customer_asks', 'refund', '用户申请退款', 'Customer asks for it'),
    ('account_closing', 'refund', '销户清退', 'Account closing'),
    ('cheque_bounced', 'reversal', '支票退票', 'Cheque bounced'),
    ('payment_returned', 'reversal', '银行退回', 'Returned by the bank'),
    ('wrong_account', 'reversal', '缴错帐户', 'Wrong account'),
    ('entered_wrongly', 'reversal', '录入错误', 'Entered wrongly'),
    ('paid_after_write_off', 'reversal', '核销后收回', 'Paid after write-off'),
    ('credited', 'reversal', '调帐冲回', 'Credited by a note'),
    ('campaign', 'bonus', '营销活动赠款', 'Campaign'),
    ('goodwill', 'bonus', '客户关怀赠款', 'Goodwill'),
    ('uncollectible', 'write_off', '长期欠费无法收回', 'Uncollectible'),
    ('bank_fee', 'bank', '银行手续费', 'Bank charge'),
    ('collected_by_channel', 'bank', '渠道代收款到帐', 'Collected by a channel');
-- Given by the product, not chosen by people.
update billing.reason_code set is_active = false
where reason_code in ('credited', 'uncollectible', 'paid_after_write_off');

-- billing.payment: what kind of receipt it is ----------------------------------------------------

alter table billing.payment
    drop constraint payment_channel_check,
    add constraint payment_channel_fkey foreign key (channel) references billing.payment_channel,
    add column payment_type text not null default 'payment'
        check (payment_type in ('payment', 'refund', 'reversal')),
    add column reverses_payment_id text references billing.payment,
    add column reason_code text references billing.reason_code,
    add column reference text,
    add column taken_by text;
-- Until now a negative amount was the only mark of money that was given back.
alter table billing.payment disable trigger append_only;
update billing.payment set payment_type = 'refund' where amount < 0;
alter table billing.payment enable trigger append_only;
alter table billing.payment
    add constraint payment_sign check ((payment_type = 'payment') = (amount > 0)),
    add constraint reversal_names_its_payment
        check ((payment_type = 'reversal') = (reverses_payment_id is not null));
create unique index payment_reversed_once on billing.payment (reverses_payment_id);

-- Notes 调帐: asked for by one person, decided by another -----------------------------------------

create table billing.adjustment_note_transition (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
insert into billing.adjustment_note_transition (from_state, to_state) values
    ('requested', 'approved'), ('requested', 'rejected'), ('approved', 'posted');

create table billing.adjustment_note (
    note_id text primary key,
    note_type text not null check (note_type in ('credit', 'debit')),
    account_id text not null references crm.account,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    bill_id text references billing.bill,
    bill_item_code text not null,
    amount numeric(18, 2) not null check (amount > 0),
    reason_code text not null references billing.reason_code,
    explanation text not null check (explanation <> ''),
    state text not null default 'requested'
        check (state in ('requested', 'approved', 'rejected', 'posted')),
    requested_by text not null check (requested_by <> ''),
    requested_at timestamptz not null default clock_timestamp(),
    decided_by text,
    decided_at timestamptz,
    decision_reason text,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint credit_note_names_its_bill check (note_type = 'debit' or bill_id is not null),
    constraint two_people_decide check (decided_by <> requested_by),
    constraint decision_is_named check ((state = 'requested') = (decided_by is null))
);
create index adjustment_note_state on billing.adjustment_note (state, requested_at);
create index adjustment_note_account on billing.adjustment_note (account_id);

create function billing.guard_adjustment_note() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'requested' then
            raise exception 'note % must begin as requested, not %', new.note_id, new.state
                using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if tg_op = 'DELETE' then
        raise exception 'note % stays: reject it, or post another note', old.note_id
            using errcode = 'restrict_violation';
    end if;
    if to_jsonb(new)
            - array['state', 'decided_by', 'decided_at', 'decision_reason', 'version', 'updated_at']
        <> to_jsonb(old)
            - array['state', 'decided_by', 'decided_at', 'decision_reason', 'version', 'updated_at']
        or (old.decided_by is not null and new.decided_by is distinct from old.decided_by)
    then
        raise exception 'note %: what was asked for and who decided does not change', old.note_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before insert or update or delete on billing.adjustment_note
    for each row execute function billing.guard_adjustment_note();
create trigger allowed_transition before update on billing.adjustment_note
    for each row execute function control.check_transition('billing', 'adjustment_note_transition');
create trigger no_truncate before truncate on billing.adjustment_note
    for each statement execute function control.refuse_change();

-- Open items 未清项 (what is owed) and funds 资金 (what it can be paid from) -----------------------

-- open_amount and balance_amount are kept by the ledger's own lines, see billing.apply_lines.
create table billing.open_item (
    open_item_id text primary key,
    account_id text not null references crm.account,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    document_type text not null check (document_type in ('bill', 'debit_note', 'late_fee')),
    document_id text not null,
    bill_id text references billing.bill,
    bill_item_code text not null,
    issued_date date not null,
    due_date date not null check (due_date >= issued_date),
    priority integer not null,
    accrues_late_fee boolean not null,
    amount numeric(18, 2) not null check (amount > 0),
    open_amount numeric(18, 2) not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint open_item_is_not_overpaid check (open_amount between 0 and amount)
);
create index open_item_account on billing.open_item (account_id, issued_date);
create index open_item_document on billing.open_item (document_id);
create index open_item_bill on billing.open_item (bill_id);
create index open_item_open on billing.open_item (account_id) where open_amount > 0;

create table billing.fund (
    fund_id text primary key,
    account_id text not null references crm.account,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    kind text not null check (kind in ('deposit', 'bonus')),
    payment_id text references billing.payment,
    bill_id text references billing.bill,
    bill_item_codes text[], -- which bill items it may pay; null = all
    valid_from date not null,
    valid_to date check (valid_to >= valid_from), -- the last day it may be used; null = no end
    amount numeric(18, 2) not null check (amount > 0),
    balance_amount numeric(18, 2) not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint fund_is_not_overdrawn check (balance_amount between 0 and amount),
    constraint deposit_is_free check (
        kind = 'bonus' or (bill_item_codes is null and valid_to is null)
    )
);
create index fund_account on billing.fund (account_id, valid_from);
create index fund_payment on billing.fund (payment_id);
create index fund_with_money on billing.fund (account_id) where balance_amount > 0;

create function billing.guard_ledger_balance() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        raise exception 'billing.%: % is kept by ledger lines and begins at 0',
            tg_table_name, tg_argv[0]
            using errcode = 'restrict_violation';
    end if;
    raise exception 'billing.% changes only by ledger lines: post an entry', tg_table_name
        using errcode = 'restrict_violation';
end $$;
-- Conditions, not code: they are asked for every row. At trigger depth 0 it is not
-- billing.apply_lines that writes.
create trigger guard_insert before insert on billing.open_item
    for each row when (new.open_amount <> 0)
    execute function billing.guard_ledger_balance('open_amount');
create trigger guard_update before update on billing.open_item
    for each row when (
        pg_trigger_depth() < 1
        or (
            old.open_item_id, old.account_id, old.province_code, old.document_type,
            old.document_id, old.bill_id, old.bill_item_code, old.issued_date, old.due_date,
            old.priority, old.accrues_late_fee, old.amount, old.created_at
        ) is distinct from (
            new.open_item_id, new.account_id, new.province_code, new.document_type,
            new.document_id, new.bill_id, new.bill_item_code, new.issued_date, new.due_date,
            new.priority, new.accrues_late_fee, new.amount, new.created_at
        )
    )
    execute function billing.guard_ledger_balance();
create trigger guard_delete before delete on billing.open_item
    for each row execute function billing.guard_ledger_balance();
create trigger no_truncate before truncate on billing.open_item
    for each statement execute function control.refuse_change();
create trigger guard_insert before insert on billing.fund
    for each row when (new.balance_amount <> 0)
    execute function billing.guard_ledger_balance('balance_amount');
create trigger guard_update before update on billing.fund
    for each row when (
        pg_trigger_depth() < 1
        or (
            old.fund_id, old.account_id, old.province_code, old.kind, old.payment_id, old.bill_id,
            old.bill_item_codes, old.valid_from, old.valid_to, old.amount, old.created_at
        ) is distinct from (
            new.fund_id, new.account_id, new.province_code, new.kind, new.payment_id, new.bill_id,
            new.bill_item_codes, new.valid_from, new.valid_to, new.amount, new.created_at
        )
    )
    execute function billing.guard_ledger_balance();
create trigger guard_delete before delete on billing.fund
    for each row execute function billing.guard_ledger_balance();
create trigger no_truncate before truncate on billing.fund
    for each statement execute function control.refuse_change();

-- The ledger: entries and their lines; a debit is positive, a credit negative ---------------------

create sequence billing.ledger_entry_number;

create table billing.ledger_entry (
    entry_id bigint primary key default nextval('billing.ledger_entry_number'),
    entry_type text not null check (entry_type in (
        'bill', 'payment', 'allocation', 'refund', 'reversal', 'credit_note', 'debit_note',
        'late_fee', 'bonus_grant', 'bonus_expiry', 'write_off', 'bank_line', 'bank_match'
    )),
    posted_date date not null,
    account_id text references crm.account, -- null: of no customer
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    idempotency_key text not null unique,
    line_count integer not null check (line_count >= 2),
    reverses_entry_id bigint unique references billing.ledger_entry,
    reason_code text references billing.reason_code,
    bill_id text references billing.bill,
    payment_id text references billing.payment,
    note_id text references billing.adjustment_note,
    by_user text not null check (by_user <> ''),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint reversal_names_entry_and_reason check (
        (entry_type = 'reversal') = (reverses_entry_id is not null)
        and (entry_type <> 'reversal' or reason_code is not null)
    )
);
create index ledger_entry_posted on billing.ledger_entry (posted_date);
create index ledger_entry_account on billing.ledger_entry (account_id, entry_id);
create index ledger_entry_payment on billing.ledger_entry (payment_id)
    where payment_id is not null;

create table billing.ledger_line (
    entry_id bigint not null references billing.ledger_entry,
    line_number integer not null check (line_number >= 1),
    ledger_code text not null references billing.ledger_account,
    bill_item_code text,
    open_item_id text references billing.open_item,
    fund_id text references billing.fund,
    amount numeric(18, 2) not null check (amount <> 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (entry_id, line_number),
    constraint receivable_has_its_item
        check ((ledger_code = 'receivable') = (open_item_id is not null)),
    constraint deposit_has_its_fund
        check ((ledger_code in ('deposit', 'bonus')) = (fund_id is not null))
);
create index ledger_line_open_item on billing.ledger_line (open_item_id)
    where open_item_id is not null;
create index ledger_line_fund on billing.ledger_line (fund_id) where fund_id is not null;
create index ledger_line_ledger on billing.ledger_line (ledger_code);

create trigger append_only before update or delete or truncate on billing.ledger_entry
    for each statement execute function control.refuse_change();
create trigger append_only before update or delete or truncate on billing.ledger_line
    for each statement execute function control.refuse_change();

-- Lines come in the transaction of their entry, not more than it declares, on items and funds of
-- its account; they carry the open amount of items and the balance of funds.
create function billing.apply_lines() returns trigger language plpgsql as $$
declare
    wrong text;
begin
    -- Executed, not written out: planned for as many lines as there are this time. All wrong lines
    -- are asked for, not the first: to find one soon the planner would compare every line with
    -- every entry, and there is none.
    execute $query$
        select min(format('line %s does not belong to entry %s', add.line_number, add.entry_id))
        from added as add
        join billing.ledger_entry as ent on ent.entry_id = add.entry_id
        left join billing.open_item as itm on itm.open_item_id = add.open_item_id
        left join billing.fund as fnd on fnd.fund_id = add.fund_id
        where add.line_number > ent.line_count
            or ent.created_at <> now()
            or itm.account_id <> ent.account_id
            or fnd.account_id <> ent.account_id
            or (fnd.fund_id is not null and fnd.kind <> add.ledger_code)
            or (coalesce(itm.account_id, fnd.account_id) is not null and ent.account_id is null)
    $query$ into wrong;
    if wrong is not null then
        raise exception '% as it was posted', wrong
            using errcode = 'restrict_violation';
    end if;
    execute $query$
        update billing.open_item as itm set open_amount = itm.open_amount + mov.amount
        from (
            select add.open_item_id, sum(add.amount) as amount from added as add
            where add.open_item_id is not null group by add.open_item_id order by add.open_item_id
        ) as mov
        where itm.open_item_id = mov.open_item_id
    $query$;
    execute $query$
        update billing.fund as fnd set balance_amount = fnd.balance_amount - mov.amount
        from (
            select add.fund_id, sum(add.amount) as amount from added as add
            where add.fund_id is not null group by add.fund_id order by add.fund_id
        ) as mov
        where fnd.fund_id = mov.fund_id
    $query$;
    return null;
end $$;
create trigger apply_lines after insert on billing.ledger_line
    referencing new table as added
    for each statement execute function billing.apply_lines();

-- At the end of the transaction every entry has the lines it declared, debits equal credits, and a
-- reversal is the mirror of what it reverses.
create function billing.check_entry() returns trigger language plpgsql as $$
declare
    lines bigint;
    total numeric;
begin
    select count(*), coalesce(sum(lin.amount), 0) into lines, total
    from billing.ledger_line as lin where lin.entry_id = new.entry_id;
    if lines <> new.line_count or total <> 0 then
        raise exception 'ledger entry % does not balance: % of % lines, debits less credits %',
            new.entry_id, lines, new.line_count, total
            using errcode = 'check_violation';
    end if;
    if new.reverses_entry_id is not null and exists (
        (
            select lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.fund_id, lin.amount
            from billing.ledger_line as lin where lin.entry_id = new.entry_id
            except all
            select lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.fund_id, -lin.amount
            from billing.ledger_line as lin where lin.entry_id = new.reverses_entry_id
        )
        union all
        (
            select lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.fund_id, -lin.amount
            from billing.ledger_line as lin where lin.entry_id = new.reverses_entry_id
            except all
            select lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.fund_id, lin.amount
            from billing.ledger_line as lin where lin.entry_id = new.entry_id
        )
    ) then
        raise exception 'ledger entry % is not the mirror of entry %',
            new.entry_id, new.reverses_entry_id
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger check_entry after insert on billing.ledger_entry
    deferrable initially deferred for each row execute function billing.check_entry();

-- Closed months 会计期间: nothing is posted into them any more ------------------------------------

create table billing.ledger_period (
    period_id text primary key check (period_id ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    closed_by text not null check (closed_by <> ''),
    closed_at timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger append_only before update or delete or truncate on billing.ledger_period
    for each statement execute function control.refuse_change();

-- The day on which something of `wanted` is posted: that day, or the first day that is open.
create function billing.accounting_date(wanted date) returns date language sql stable as $$
    select greatest(
        wanted,
        (
            select (to_date(max(per.period_id), 'YYYY-MM') + interval '1 month')::date
            from billing.ledger_period as per
        )
    )
$$;

create function billing.guard_period() returns trigger language plpgsql as $$
declare
    refused record;
begin
    select add.entry_id, add.posted_date into refused from added as add
    where add.posted_date < (select billing.accounting_date('-infinity'))
    limit 1;
    if found then
        raise exception 'entry % is of %, and that month is closed', refused.entry_id,
            refused.posted_date
            using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create trigger guard_period after insert on billing.ledger_entry
    referencing new table as added
    for each statement execute function billing.guard_period();

-- Late fees 违约金 -------------------------------------------------------------------------------

create table billing.late_fee_run (
    fee_date date primary key,
    rate_per_day numeric(9, 6) not null,
    document_count integer not null,
    fee_amount numeric(18, 2) not null,
    by_user text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create table billing.late_fee (
    document_id text not null,
    fee_date date not null references billing.late_fee_run,
    account_id text not null references crm.account,
    base_amount numeric(18, 2) not null check (base_amount > 0),
    rate_per_day numeric(9, 6) not null,
    fee_amount numeric(18, 2) not null check (fee_amount > 0),
    open_item_id text not null unique references billing.open_item,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (document_id, fee_date)
);
create trigger append_only before update or delete or truncate on billing.late_fee_run
    for each statement execute function control.refuse_change();
create trigger append_only before update or delete or truncate on billing.late_fee
    for each statement execute function control.refuse_change();

-- Dunning 催缴 and the orders it gives -----------------------------------------------------------

create table billing.dunning_step (
    step_number integer primary key check (step_number >= 1),
    action text not null
        check (action in ('remind', 'bar_outgoing', 'bar_all', 'terminate', 'write_off')),
    days_overdue integer not null check (days_overdue >= 0),
    minimum_amount numeric(18, 2) not null check (minimum_amount >= 0),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
insert into billing.dunning_step (step_number, action, days_overdue, minimum_amount) values
    (1, 'remind', 1, 1), (2, 'remind', 7, 5), (3, 'bar_outgoing', 15, 10), (4, 'bar_all', 30, 10),
    (5, 'terminate', 90, 10), (6, 'write_off', 365, 0);

create table billing.dunning_case (
    case_id bigint generated always as identity primary key,
    account_id text not null references crm.account,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    opened_date date not null,
    closed_date date check (closed_date >= opened_date),
    outcome text check (outcome in ('paid', 'written_off')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((closed_date is null) = (outcome is null))
);
create unique index dunning_case_open on billing.dunning_case (account_id)
    where closed_date is null;

create table billing.dunning_action (
    case_id bigint not null references billing.dunning_case,
    step_number integer not null references billing.dunning_step,
    action_date date not null,
    action text not null,
    days_overdue integer not null,
    overdue_amount numeric(18, 2) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (case_id, step_number)
);
create trigger append_only before update or delete or truncate on billing.dunning_action
    for each statement execute function control.refuse_change();

create table billing.service_order_transition (
    from_state text not null,
    to_state text not null,
    primary key (from_state, to_state)
);
insert into billing.service_order_transition (from_state, to_state) values
    ('requested', 'sent'), ('requested', 'cancelled'), ('sent', 'completed'), ('sent', 'failed'),
    ('failed', 'sent'), ('failed', 'cancelled');

create table billing.service_order (
    service_order_id bigint generated always as identity primary key,
    account_id text not null references crm.account,
    subscription_id text not null references crm.subscription,
    province_code text not null check (province_code ~ '^[0-9]{2}$'),
    action text not null check (action in ('bar_outgoing', 'bar_all', 'terminate', 'restore')),
    state text not null default 'requested'
        check (state in ('requested', 'sent', 'completed', 'failed', 'cancelled')),
    case_id bigint not null references billing.dunning_case,
    requested_date date not null,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (case_id, subscription_id, action)
);
create index service_order_state on billing.service_order (state, service_order_id);
create index service_order_account on billing.service_order (account_id);

create function billing.guard_service_order() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'requested' then
            raise exception 'a service order must begin as requested, not %', new.state
                using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if tg_op = 'DELETE' or to_jsonb(new) - array['state', 'version', 'updated_at']
        <> to_jsonb(old) - array['state', 'version', 'updated_at']
    then
        raise exception 'service order % stays as it was given: only its state moves',
            old.service_order_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before insert or update or delete on billing.service_order
    for each row execute function billing.guard_service_order();
create trigger allowed_transition before update on billing.service_order
    for each row execute function control.check_transition('billing', 'service_order_transition');

-- Bank statements 银行对帐单 ---------------------------------------------------------------------

create table billing.bank_file (
    bank_file_id text primary key,
    file_name text not null,
    format text not null check (format in ('mt940', 'camt.053')),
    sha256 text not null unique,
    imported_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table billing.bank_statement (
    bank_statement_id text primary key,
    bank_file_id text not null references billing.bank_file,
    bank_account text not null,
    statement_reference text not null,
    currency_code text not null check (currency_code ~ '^[A-Z]{3}$'),
    opening_date date not null,
    opening_amount numeric(18, 2) not null,
    closing_date date not null,
    closing_amount numeric(18, 2) not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (bank_account, statement_reference, closing_date)
);

create table billing.bank_line (
    bank_line_id text primary key,
    bank_statement_id text not null references billing.bank_statement,
    line_number integer not null check (line_number >= 1),
    booked_date date not null,
    amount numeric(18, 2) not null check (amount <> 0), -- credited to us is positive
    bank_reference text,
    customer_reference text,
    remittance text,
    counterparty text,
    state text not null default 'suspense' check (state in ('suspense', 'matched')),
    match_rule text check (
        match_rule in ('bill_reference', 'account_reference', 'amount_of_several', 'by_hand')
    ),
    account_id text references crm.account,
    payment_id text references billing.payment,
    matched_by text,
    matched_at timestamptz,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (bank_statement_id, line_number),
    check ((state = 'matched') = (match_rule is not null and matched_by is not null)),
    check (state = 'matched' or (account_id is null and payment_id is null))
);
create index bank_line_suspense on billing.bank_line (booked_date) where state = 'suspense';

create function billing.guard_bank_line() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or (old.state = 'matched' and new.state = 'matched') or to_jsonb(new)
            - array['state', 'match_rule', 'account_id', 'payment_id', 'matched_by', 'matched_at',
                'version', 'updated_at']
        <> to_jsonb(old)
            - array['state', 'match_rule', 'account_id', 'payment_id', 'matched_by', 'matched_at',
                'version', 'updated_at']
    then
        raise exception 'bank line % stays as the bank sent it; matched, it only goes back to suspense',
            old.bank_line_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger a_guard before update or delete on billing.bank_line
    for each row execute function billing.guard_bank_line();
create trigger append_only before update or delete or truncate on billing.bank_file
    for each statement execute function control.refuse_change();
create trigger append_only before update or delete or truncate on billing.bank_statement
    for each statement execute function control.refuse_change();
create trigger no_truncate before truncate on billing.bank_line
    for each statement execute function control.refuse_change();

-- updated_at is maintained on the tables made here.
do $$
declare
    found record;
begin
    for found in
        select col.table_name from information_schema.columns as col
        where col.column_name = 'updated_at' and col.table_schema = 'billing' and not exists (
            select 1 from pg_trigger as trg
            where trg.tgname = 'set_updated_at'
                and trg.tgrelid = format('billing.%I', col.table_name)::regclass
        )
    loop
        execute format(
            'create trigger set_updated_at before update on billing.%I '
            'for each row execute function control.set_updated_at()',
            found.table_name
        );
    end loop;
end $$;
