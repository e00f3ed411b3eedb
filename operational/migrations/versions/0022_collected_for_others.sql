-- What is collected for others 代收款: billed and paid like our own, and in its order as before, but owed
-- to those it is collected for.
insert into billing.ledger_account (ledger_code, account_number, kind, name_zh, name_en) values
    ('collected_for_others', '224102', 'liability', '代收款', 'Collected for others');
insert into billing.item_rule (bill_item_code, priority, ledger_code, accrues_late_fee) values
    ('collection', 50, 'collected_for_others', true);
