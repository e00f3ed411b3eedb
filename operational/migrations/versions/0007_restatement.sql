-- Late usage can also make a closed bill smaller: usage taken back, a volume price reached.
insert into billing.reason_code (reason_code, purpose, name_zh, name_en) values
    ('late_usage_credit', 'credit_note', '迟到话单退费', 'Late usage, in favour of the customer');
