from django.db import migrations, models

import accounts.models

# A name that PostgreSQL alone understands ("GMT+2", "europe/berlin") is none either: Python reads it too.
KNOWN = """
    ALTER TABLE accounts_tenant NO FORCE ROW LEVEL SECURITY;
    UPDATE accounts_tenant SET time_zone = 'UTC' WHERE time_zone NOT IN (SELECT name FROM pg_timezone_names);
    ALTER TABLE accounts_tenant FORCE ROW LEVEL SECURITY;

    CREATE FUNCTION refuse_unknown_time_zone() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = NEW.time_zone) THEN
            RAISE EXCEPTION '"%" is no time zone', NEW.time_zone USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER time_zone_is_known BEFORE INSERT OR UPDATE OF time_zone ON accounts_tenant
    FOR EACH ROW WHEN (NEW.time_zone <> 'UTC') EXECUTE FUNCTION refuse_unknown_time_zone();
"""

ANY = """
    DROP TRIGGER time_zone_is_known ON accounts_tenant;
    DROP FUNCTION refuse_unknown_time_zone();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0005_statements'),
    ]

    operations = [
        migrations.AlterField(
            model_name='tenant',
            name='time_zone',
            field=models.CharField(default='UTC', max_length=64, validators=[accounts.models.check_time_zone]),
        ),
        migrations.RunSQL(KNOWN, ANY),
    ]
