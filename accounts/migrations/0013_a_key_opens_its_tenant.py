from django.db import migrations

# What a program's API key is, told in the statement that names its tenant for the transaction: every request of a
# program begins so. Nothing is proven by it: who calls compares the hash, or ends the transaction.
FORWARD = """
    CREATE FUNCTION enter_by_key(the_tenant uuid, the_key uuid, used_since timestamptz)
    RETURNS TABLE (secret_hash varchar, scopes varchar[], noted boolean) LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM set_config('app.tenant', the_tenant::text, true);
        RETURN QUERY SELECT k.secret_hash, k.scopes, coalesce(k.last_used_at > used_since, false)
        FROM accounts_apikey k
        WHERE k.id = the_key AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
    END $$;
"""
BACK = "DROP FUNCTION enter_by_key(uuid, uuid, timestamptz);"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0012_what_0011_replaced")]
    operations = [migrations.RunSQL(FORWARD, BACK)]
