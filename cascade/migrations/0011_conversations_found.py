from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Without a lock: both tables may be large, and are written to with every turn."""

    atomic = False
    dependencies = [("accounts", "0011_a_turn_in_two_statements"), ("cascade", "0010_newer_articles")]
    operations = [
        AddIndexConcurrently(
            model_name="feedback", index=models.Index(fields=["tenant", "created_at"], name="feedback_by_time")
        ),
        AddIndexConcurrently(
            model_name="message", index=models.Index(fields=["tenant", "-id"], name="newest_messages")
        ),
    ]
