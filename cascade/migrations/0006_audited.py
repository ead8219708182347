from django.db import migrations

from accounts.rls import audited


class Migration(migrations.Migration):
    dependencies = [("cascade", "0005_prices_of_all_kinds"), ("accounts", "0010_rest_api")]

    operations = [
        audited("cascade_chatbot"),
        audited("cascade_cascadestrategy"),
        audited("cascade_article"),
        audited("cascade_scorerversion"),
        audited("cascade_conversation", names_only=True),
    ]
