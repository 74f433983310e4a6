-- Privileges on new objects. `$S` stands for the quoted schema. Roles with privileges on the tables of an older version
-- get the same ones on the tables of this version; members of these roles have them as members. `append` and
-- `position`, which run with the owner's privileges, are granted to those that could append before and to those that
-- are granted them, because `usage` on a schema that only nodes used was no permission to append.
do $do$ declare
    r record;
    calls constant text := '$S.append(text, jsonb, text, bigint, text, boolean), '
        '$S.append_text(text, text, text, bigint, text, boolean), $S.position(text)';
    tables constant text := '$S.head, $S.name, $S.floor, $S.kept, $S.asked';
begin
    if exists (select from $S.place where version >= 3) then
        return;
    end if;
    execute format('revoke execute on function %s from public', calls);
    revoke execute on function $S.append_data(text, bytea, boolean, text, bigint, text, boolean), $S.compact(jsonb),
        $S.append_event(text, bytea, boolean, text, bigint, text, integer, integer, boolean) from public;
    for r in
        select case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as name,
            bool_or(a.privilege_type = 'INSERT') as writes
        from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        where c.oid = '$S.entry'::regclass and a.grantee <> (select oid from pg_roles where rolname = current_user)
        group by a.grantee having bool_or(a.privilege_type = 'SELECT')
    loop
        execute format('grant select on %s to %s', tables, r.name);
        if r.writes then
            execute format('grant insert, update, delete on %s to %s', tables, r.name);
            execute format('grant execute on function %s to %s', calls, r.name);
        end if;
    end loop;
end $do$;
