from django.db import migrations

from accounts.rls import append_only, for_app, isolate

# A process that starts asks which tenants have turns that nobody closed; it then enters each.
OPEN_TURNS = """
    CREATE POLICY look_up ON cascade_turn FOR SELECT TO CURRENT_USER USING (true);

    CREATE FUNCTION tenants_with_open_turns() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT DISTINCT t.tenant_id FROM public.cascade_turn t WHERE t.state = 'open' $$;

    REVOKE EXECUTE ON FUNCTION tenants_with_open_turns() FROM PUBLIC;
"""

# Models and prices are the operator's: whoever serves requests can read them and no more.
READ_ONLY = "REVOKE INSERT, UPDATE, DELETE ON cascade_languagemodel, cascade_price FROM {app}"


class Migration(migrations.Migration):
    dependencies = [("cascade", "0001_initial"), ("accounts", "0002_row_level_security")]

    operations = [
        isolate("cascade_chatbot"),
        isolate("cascade_cascadestrategy"),
        isolate("cascade_article"),
        isolate("cascade_conversation"),
        isolate("cascade_turn"),
        isolate("cascade_message"),
        isolate("cascade_modelcall"),
        isolate("cascade_feedback"),
        isolate("cascade_event"),
        append_only("cascade_price"),
        migrations.RunSQL(
            """
            CREATE TRIGGER append_only BEFORE UPDATE ON cascade_cascadestrategy
            FOR EACH ROW EXECUTE FUNCTION refuse_change();
            """,
            "DROP TRIGGER append_only ON cascade_cascadestrategy",
        ),
        migrations.RunSQL(
            OPEN_TURNS, "DROP FUNCTION tenants_with_open_turns(); DROP POLICY look_up ON cascade_turn;"
        ),
        for_app(READ_ONLY),
        for_app("GRANT EXECUTE ON FUNCTION tenants_with_open_turns() TO {app}"),
    ]
