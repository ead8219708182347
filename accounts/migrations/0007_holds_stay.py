from django.db import migrations

# Beside what stayed already: the budgets that a turn is reserved in, and when it was.
HOLDS = """
    CREATE OR REPLACE FUNCTION refuse_other_hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.id, NEW.tenant_id, NEW.turn_id, NEW.period, NEW.tariff_id, NEW.included_micros, NEW.amount_micros,
            NEW.spendings, NEW.created_at)
           IS DISTINCT FROM
           (OLD.id, OLD.tenant_id, OLD.turn_id, OLD.period, OLD.tariff_id, OLD.included_micros, OLD.amount_micros,
            OLD.spendings, OLD.created_at)
           OR OLD.settled_at IS NOT NULL AND NEW.settled_at IS DISTINCT FROM OLD.settled_at THEN
            RAISE EXCEPTION 'a hold is settled once and otherwise stays as it is' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0006_time_zones'),
    ]

    operations = [
        migrations.RunSQL(HOLDS, migrations.RunSQL.noop),
    ]
