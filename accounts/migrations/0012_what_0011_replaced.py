from django.db import migrations

# Functions that the one statement each of 0011 stands in for, kept by it for processes that were under way.
REPLACED = """
    DROP FUNCTION place_hold(uuid, uuid, uuid, date, uuid, bigint, bigint, text, text, text);
    DROP FUNCTION settle_hold(uuid, bigint, jsonb);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0011_a_turn_in_two_statements")]

    operations = [migrations.RunSQL(REPLACED, migrations.RunSQL.noop)]
