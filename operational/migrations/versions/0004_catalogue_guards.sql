-- What was sold or rated by is never changed, whoever writes: a change is a new version.

-- Whether a version is in use: something was rated by it, or a subscription holds or held it.
create function catalogue.is_used(asked_version_id text) returns boolean
language sql stable as $$
    select exists (
        select 1 from catalogue.price_plan_version as ver
        where ver.plan_version_id = asked_version_id and (
            ver.used_at is not null or exists (
                select 1 from crm.product_instance as ins
                where ins.offering_id = ver.offering_id
                    and ver.valid_from <= now()
                    and ins.valid_from < coalesce(ver.valid_to, 'infinity')
                    and coalesce(ins.valid_to, 'infinity') > ver.valid_from
            )
        )
    )
$$;

create function catalogue.refuse_used(what text, version_id text) returns void
language plpgsql as $$
begin
    raise exception '% of version % stays as it is: the version is in use; add a new version',
        what, version_id
        using errcode = 'restrict_violation';
end $$;

-- The version itself: only its end moves, from one moment that is still to come to another.
create function catalogue.guard_version() returns trigger language plpgsql as $$
begin
    if not catalogue.is_used(old.plan_version_id) then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    if tg_op = 'DELETE'
        or to_jsonb(new) - array['valid_to', 'used_at', 'updated_at']
            <> to_jsonb(old) - array['valid_to', 'used_at', 'updated_at']
        or (old.used_at is not null and new.used_at is distinct from old.used_at)
        or (
            new.valid_to is distinct from old.valid_to
            and (old.valid_to <= now() or new.valid_to <= now())
        )
    then
        perform catalogue.refuse_used('price_plan_version', old.plan_version_id);
    end if;
    return new;
end $$;
create trigger a_guard before update or delete on catalogue.price_plan_version
    for each row execute function catalogue.guard_version();

-- The rows of a version. New ones go in with the version, in the transaction that makes it.
-- Argument: the column that leads to the version (plan_version_id, or the key of its owner).
create function catalogue.guard_version_row() returns trigger language plpgsql as $$
declare
    rows_touched jsonb[] := case tg_op
        when 'INSERT' then array[to_jsonb(new)]
        when 'DELETE' then array[to_jsonb(old)]
        else array[to_jsonb(old), to_jsonb(new)]
    end;
    touched jsonb;
    version_id text;
    made_at timestamptz;
begin
    foreach touched in array rows_touched loop
        version_id := case tg_argv[0]
            when 'usage_price_id' then (
                select prc.plan_version_id from catalogue.usage_price as prc
                where prc.usage_price_id = touched ->> 'usage_price_id'
            )
            when 'allowance_id' then (
                select alw.plan_version_id from catalogue.allowance as alw
                where alw.allowance_id = touched ->> 'allowance_id'
            )
            else touched ->> 'plan_version_id'
        end;
        select ver.created_at into made_at from catalogue.price_plan_version as ver
        where ver.plan_version_id = version_id;
        if (tg_op <> 'INSERT' or made_at <> now()) and catalogue.is_used(version_id) then
            perform catalogue.refuse_used(tg_table_name, version_id);
        end if;
    end loop;
    return case tg_op when 'DELETE' then old else new end;
end $$;

-- A calendar is part of every version that goes by it; only days to come become holidays, or not.
create function catalogue.guard_calendar() returns trigger language plpgsql as $$
declare
    calendar jsonb := case tg_op when 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
    former jsonb := case tg_op when 'INSERT' then to_jsonb(new) else to_jsonb(old) end;
    user_version text;
begin
    select min(ver.plan_version_id) into user_version
    from catalogue.price_plan_version as ver
    where ver.calendar_id in (calendar ->> 'calendar_id', former ->> 'calendar_id')
        and ver.created_at <> now() and catalogue.is_used(ver.plan_version_id);
    if user_version is not null and not (
        (tg_table_name = 'calendar_holiday' and least(
            cast(calendar ->> 'holiday_date' as date), cast(former ->> 'holiday_date' as date)
        ) > current_date)
        or (
            tg_op = 'UPDATE' and calendar - array['name_zh', 'name_en', 'updated_at']
                = former - array['name_zh', 'name_en', 'updated_at']
        )
    ) then
        raise exception
            '% of calendar % stays as it is: version % in use goes by it; make another calendar',
            tg_table_name, former ->> 'calendar_id', user_version
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;

-- What a class counts, and where it stands, is part of every version that prices it.
create function catalogue.guard_charge_class() returns trigger language plpgsql as $$
declare
    user_version text;
begin
    if tg_op = 'UPDATE'
        and (new.charge_class, new.service, new.unit, new.bill_item_code)
            = (old.charge_class, old.service, old.unit, old.bill_item_code)
        and new.parent_class is not distinct from old.parent_class
    then
        return new;
    end if;
    with recursive lineage as (
        select old.charge_class as charge_class
        union
        select parents.class
        from (
            select cls.charge_class as below, cls.parent_class as class
            from catalogue.charge_class as cls
            union all
            select new.charge_class, new.parent_class
        ) as parents
        inner join lineage on parents.below = lineage.charge_class
        where parents.class is not null
    )

    select min(prc.plan_version_id) into user_version
    from lineage
    inner join catalogue.usage_price as prc on prc.charge_class = lineage.charge_class
    where catalogue.is_used(prc.plan_version_id);
    if user_version is not null then
        raise exception
            'charge class % stays as it is: version % in use prices it; add another class',
            old.charge_class, user_version
            using errcode = 'restrict_violation';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;
create trigger a_guard before update or delete on catalogue.charge_class
    for each row execute function catalogue.guard_charge_class();

do $$
declare
    guarded record;
begin
    for guarded in
        select * from (values
            ('usage_price', 'plan_version_id'), ('price_tier', 'usage_price_id'),
            ('price_step', 'usage_price_id'), ('allowance', 'plan_version_id'),
            ('allowance_coverage', 'allowance_id'), ('discount', 'plan_version_id'),
            ('one_off_price', 'plan_version_id'), ('commitment', 'plan_version_id')
        ) as tables (name, leads_to)
    loop
        execute format(
            'create trigger a_guard before insert or update or delete on catalogue.%I '
            'for each row execute function catalogue.guard_version_row(%L)',
            guarded.name, guarded.leads_to
        );
    end loop;
    for guarded in
        select unnest(array['calendar', 'calendar_period', 'calendar_holiday']) as name
    loop
        execute format(
            'create trigger a_guard before insert or update or delete on catalogue.%I '
            'for each row execute function catalogue.guard_calendar()',
            guarded.name
        );
    end loop;
    for guarded in
        select unnest(array[
            'charge_class', 'calendar', 'calendar_period', 'calendar_holiday',
            'price_plan_version', 'usage_price', 'price_tier', 'price_step', 'allowance',
            'allowance_coverage', 'discount', 'one_off_price', 'commitment'
        ]) as name
    loop
        execute format(
            'create trigger no_truncate before truncate on catalogue.%I '
            'for each statement execute function control.refuse_change()',
            guarded.name
        );
    end loop;
end $$;
