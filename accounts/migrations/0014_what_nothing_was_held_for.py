from django.db import migrations, models

# What a turn used for which nothing was held, at the operator's expense. From then on nothing can be held for it: a hold
# whose answer was lost may still be on its way. One that came before is settled instead.
RECORD = """
    CREATE FUNCTION record_turn(the_tenant uuid, new_hold uuid, the_turn uuid, charges jsonb) RETURNS boolean
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
    DECLARE
        month date;
    BEGIN
        PERFORM set_config('app.tenant', the_tenant::text, true);
        SELECT period INTO month FROM terms_now(the_tenant);
        INSERT INTO accounts_account (tenant_id, balance_micros, held_micros) VALUES (the_tenant, 0, 0)
        ON CONFLICT DO NOTHING;
        INSERT INTO accounts_hold
            (id, tenant_id, turn_id, period, included_micros, amount_micros, spendings, settled_at, spent_micros, unheld)
        VALUES (new_hold, the_tenant, the_turn, month, 0, 0, '{}', statement_timestamp(), 0, true)
        ON CONFLICT (turn_id) DO NOTHING;
        IF NOT FOUND THEN RETURN settle_turn(the_tenant, the_turn, charges); END IF;
        IF jsonb_array_length(charges) > 0 THEN
            INSERT INTO accounts_ledgerentry (
                id, tenant_id, kind, period, hold_id, turn_id, received_micros, amount_micros, cost_micros, result_micros,
                included_micros, dearest_micros, estimated, memo, source, call_id, conversation_id, chatbot_id, number,
                provider, model, tier, outcome, price_version, input_tokens, output_tokens)
            SELECT c.id, the_tenant, 'charge', month, new_hold, the_turn, 0, 0, c.cost_micros, -c.cost_micros, 0,
                   c.dearest_micros, c.estimated, '', c.source, c.call_id, c.conversation_id, c.chatbot_id, c.number,
                   c.provider, c.model, c.tier, c.outcome, c.price_version, c.input_tokens, c.output_tokens
            FROM jsonb_to_recordset(charges) AS c (
                id uuid, call_id uuid, conversation_id uuid, chatbot_id uuid, number smallint, tier smallint, source text,
                provider text, model text, outcome text, price_version text, cost_micros bigint, dearest_micros bigint,
                estimated boolean, input_tokens integer, output_tokens integer);
        END IF;
        RETURN true;
    END $$;
"""
NO_RECORD = "DROP FUNCTION record_turn(uuid, uuid, uuid, jsonb);"

HOLDS = """
    CREATE OR REPLACE FUNCTION refuse_other_hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.id, NEW.tenant_id, NEW.turn_id, NEW.period, NEW.tariff_id, NEW.included_micros, NEW.amount_micros,
            NEW.spendings, NEW.created_at, NEW.unheld)
           IS DISTINCT FROM
           (OLD.id, OLD.tenant_id, OLD.turn_id, OLD.period, OLD.tariff_id, OLD.included_micros, OLD.amount_micros,
            OLD.spendings, OLD.created_at, OLD.unheld)
           OR OLD.settled_at IS NOT NULL AND NEW.settled_at IS DISTINCT FROM OLD.settled_at THEN
            RAISE EXCEPTION 'a hold is settled once and otherwise stays as it is' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$;

    CREATE CONSTRAINT TRIGGER proven_at_once AFTER INSERT ON accounts_hold
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.settled_at IS NOT NULL)
    EXECUTE FUNCTION refuse_unproven_hold();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0013_a_key_opens_its_tenant")]

    operations = [
        migrations.AddField(
            model_name="hold",
            name="unheld",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.RunSQL(RECORD, NO_RECORD),
        migrations.RunSQL(HOLDS, migrations.RunSQL.noop),
    ]
