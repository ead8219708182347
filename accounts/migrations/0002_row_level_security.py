from django.db import migrations

from accounts.rls import append_only, for_app, isolate

GRANTS = """
    GRANT USAGE ON SCHEMA public TO {app};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {app};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO {app};
    REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {app};
    REVOKE UPDATE, DELETE ON accounts_ledgerentry FROM {app};
    REVOKE DELETE ON accounts_hold, accounts_account FROM {app};
"""

# What must be found before the tenant is known. They answer with ids alone, to exact keys alone.
LOOK_UPS = """
    CREATE POLICY look_up ON accounts_apikey FOR SELECT TO CURRENT_USER USING (true);
    CREATE POLICY look_up ON accounts_widget FOR SELECT TO CURRENT_USER USING (true);

    CREATE FUNCTION find_api_key(wanted text) RETURNS TABLE (tenant_id uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT k.tenant_id, k.id FROM public.accounts_apikey k WHERE k.prefix = wanted $$;

    CREATE FUNCTION find_widget(wanted text) RETURNS TABLE (tenant_id uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT w.tenant_id, w.id FROM public.accounts_widget w WHERE w.public_key = wanted $$;

    REVOKE EXECUTE ON FUNCTION find_api_key(text), find_widget(text) FROM PUBLIC;
"""

# Whoever checks all books asks which tenants there are, learns their ids alone, and then enters each.
EVERY_TENANT = """
    CREATE POLICY look_up ON accounts_tenant FOR SELECT TO CURRENT_USER USING (true);

    CREATE FUNCTION every_tenant() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT t.id FROM public.accounts_tenant t ORDER BY t.id $$;

    REVOKE EXECUTE ON FUNCTION every_tenant() FROM PUBLIC;
"""

REFUSE_CHANGE = """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$;
"""

# A user sees the memberships that are theirs before they choose a tenant.
OWN_MEMBERSHIPS = """
    CREATE POLICY own ON accounts_member FOR SELECT
    USING (user_id = (SELECT nullif(current_setting('app.user', true), '')::bigint));
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        isolate("accounts_tenant", "id"),
        isolate("accounts_account"),
        isolate("accounts_member"),
        isolate("accounts_apikey"),
        isolate("accounts_widget"),
        isolate("accounts_widgetsecret"),
        isolate("accounts_customer"),
        isolate("accounts_customerrecord"),
        isolate("accounts_hold"),
        isolate("accounts_ledgerentry"),
        migrations.RunSQL(OWN_MEMBERSHIPS, "DROP POLICY own ON accounts_member"),
        migrations.RunSQL(REFUSE_CHANGE, "DROP FUNCTION refuse_change()"),
        append_only("accounts_ledgerentry"),
        migrations.RunSQL(
            LOOK_UPS,
            """
            DROP FUNCTION find_api_key(text); DROP FUNCTION find_widget(text);
            DROP POLICY look_up ON accounts_apikey; DROP POLICY look_up ON accounts_widget;
            """,
        ),
        migrations.RunSQL(EVERY_TENANT, "DROP FUNCTION every_tenant(); DROP POLICY look_up ON accounts_tenant;"),
        for_app(GRANTS),
        for_app("GRANT EXECUTE ON FUNCTION find_api_key(text), find_widget(text), every_tenant() TO {app}"),
    ]
