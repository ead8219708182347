from django.db import migrations, models

# The budgets that a turn touches, each with the period that counts it: where the tenant is decides which day it is.
TOUCHED = """
    CREATE FUNCTION touched_budgets(the_tenant uuid, chatbot text, segment text, customer text)
    RETURNS TABLE (budget_id uuid, starts date, subject text) LANGUAGE sql STABLE AS $$
        SELECT b.id, CASE b.period
                   WHEN 'day' THEN (statement_timestamp() AT TIME ZONE t.time_zone)::date
                   WHEN 'month' THEN date_trunc('month', statement_timestamp() AT TIME ZONE t.time_zone)::date
                   ELSE date '1970-01-01' END,
               who.subject
        FROM accounts_budget b
        JOIN accounts_tenant t ON t.id = b.tenant_id
        JOIN (VALUES ('tenant', ''), ('chatbot', chatbot), ('segment', segment), ('customer', customer))
             AS who (scope, subject) ON who.scope = b.scope AND b.subject IN ('', who.subject)
        WHERE b.tenant_id = the_tenant AND who.subject IS NOT NULL
        ORDER BY b.id
    $$;
"""

# A turn, or a correction of one, cost so much; what was reserved for it is free again; shares reached are events.
COUNT = """
    CREATE FUNCTION count_in_budgets(spendings uuid[], price bigint, released bigint) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        IF cardinality(spendings) = 0 THEN RETURN; END IF;
        PERFORM FROM accounts_budgetspending WHERE id = ANY(spendings) ORDER BY id FOR UPDATE;
        UPDATE accounts_budgetspending
        SET spent_micros = spent_micros + price, held_micros = held_micros - released WHERE id = ANY(spendings);
        INSERT INTO accounts_budgetevent (id, tenant_id, spending_id, share, spent_micros)
        SELECT gen_random_uuid(), s.tenant_id, s.id, share, s.spent_micros
        FROM accounts_budgetspending s JOIN accounts_budget b ON b.id = s.budget_id, unnest(b.shares) AS share
        WHERE s.id = ANY(spendings) AND s.spent_micros > 0
              AND s.spent_micros::numeric * 100 >= b.limit_micros::numeric * share
        ON CONFLICT DO NOTHING;
    END $$;
"""

# Sets aside the most that a turn can cost, or says why not: a row for each hard budget without room, and one without
# a budget where the money does not suffice. `held`: how much of it others hold, so that it may be free in a moment.
# The transaction does not wait for the disk, and so holds no lock meanwhile: before a model is called the call is put
# on record in a transaction that does, and with it is all that was committed before.
PLACE = """
    CREATE FUNCTION place_hold(
        the_tenant uuid, new_hold uuid, the_turn uuid, month date, tariff uuid, quota bigint, most bigint,
        chatbot text, segment text, customer text
    ) RETURNS TABLE (budget uuid, needed bigint, free bigint, held bigint) LANGUAGE plpgsql AS $$
    DECLARE
        counting uuid[] := '{}';
        refused boolean := false;
        short boolean := false;
        covered bigint := 0;
        of_others bigint := 0;
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        IF EXISTS (SELECT FROM accounts_hold h WHERE h.turn_id = the_turn) THEN
            RAISE unique_violation USING MESSAGE = 'the turn has a hold';
        END IF;
        IF EXISTS (SELECT FROM accounts_budget b WHERE b.tenant_id = the_tenant) THEN
            INSERT INTO accounts_budgetspending (id, tenant_id, budget_id, starts, subject, spent_micros, held_micros)
            SELECT gen_random_uuid(), the_tenant, t.budget_id, t.starts, t.subject, 0, 0
            FROM touched_budgets(the_tenant, chatbot, segment, customer) t
            WHERE NOT EXISTS (SELECT FROM accounts_budgetspending s
                              WHERE (s.budget_id, s.starts, s.subject) = (t.budget_id, t.starts, t.subject))
            ON CONFLICT DO NOTHING;
            SELECT coalesce(array_agg(locked.id), '{}') INTO counting FROM (
                SELECT s.id FROM accounts_budgetspending s
                JOIN touched_budgets(the_tenant, chatbot, segment, customer) t
                     ON (s.budget_id, s.starts, s.subject) = (t.budget_id, t.starts, t.subject)
                ORDER BY s.id FOR UPDATE OF s
            ) locked;
            RETURN QUERY
            SELECT b.id, most, b.limit_micros - s.spent_micros - s.held_micros, s.held_micros
            FROM accounts_budgetspending s JOIN accounts_budget b ON b.id = s.budget_id
            WHERE s.id = ANY(counting) AND b.hard AND b.limit_micros - s.spent_micros - s.held_micros < most
            ORDER BY s.id;
            refused := FOUND;
        END IF;
        IF quota > 0 THEN
            INSERT INTO accounts_allowance (id, tenant_id, period, used_micros, held_micros)
            VALUES (gen_random_uuid(), the_tenant, month, 0, 0) ON CONFLICT DO NOTHING;
            SELECT greatest(0, least(most, quota - a.used_micros - a.held_micros)), greatest(0, quota - a.used_micros)
            INTO covered, of_others
            FROM accounts_allowance a WHERE a.tenant_id = the_tenant AND a.period = month FOR UPDATE;
        END IF;
        IF NOT refused THEN
            UPDATE accounts_account a SET held_micros = a.held_micros + most - covered
            WHERE a.tenant_id = the_tenant AND a.balance_micros >= a.held_micros + most - covered;
            short := NOT FOUND;
        END IF;
        IF refused OR short THEN
            RETURN QUERY
            SELECT NULL::uuid, most - covered, coalesce(a.balance_micros - a.held_micros, 0),
                   coalesce(a.held_micros, 0) + of_others - covered
            FROM (VALUES (1)) AS one LEFT JOIN accounts_account a ON a.tenant_id = the_tenant
            WHERE short OR coalesce(a.balance_micros - a.held_micros, -1) < most - covered;
            RETURN;
        END IF;
        UPDATE accounts_budgetspending s SET held_micros = s.held_micros + most WHERE s.id = ANY(counting);
        IF quota > 0 THEN
            UPDATE accounts_allowance a SET held_micros = a.held_micros + covered
            WHERE a.tenant_id = the_tenant AND a.period = month;
        END IF;
        INSERT INTO accounts_hold
            (id, tenant_id, turn_id, period, tariff_id, included_micros, amount_micros, spendings)
        VALUES (new_hold, the_tenant, the_turn, month, tariff, covered, most - covered, counting);
    END $$;
"""

# Charges a turn and releases the rest of its hold; false: that was done before. `charges` are entries as JSON whose
# amount is the price before the quota, negative: what is left of the quota covers them in their order.
SETTLE = """
    CREATE FUNCTION settle_hold(the_turn uuid, quota bigint, charges jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        held accounts_hold;
        month accounts_allowance;
        price bigint;
        covered bigint := 0;
    BEGIN
        SELECT * INTO held FROM accounts_hold WHERE turn_id = the_turn FOR UPDATE;
        IF held.settled_at IS NOT NULL THEN RETURN false; END IF;
        SELECT coalesce(-sum(c.amount_micros), 0) INTO price
        FROM jsonb_populate_recordset(NULL::accounts_ledgerentry, charges) c;
        PERFORM count_in_budgets(held.spendings, price, held.amount_micros + held.included_micros);
        IF quota > 0 THEN
            SELECT * INTO month FROM accounts_allowance
            WHERE tenant_id = held.tenant_id AND period = held.period FOR UPDATE;
            covered := greatest(0, least(price, quota - month.used_micros - month.held_micros + held.included_micros));
            UPDATE accounts_allowance
            SET used_micros = used_micros + covered, held_micros = held_micros - held.included_micros
            WHERE id = month.id;
        END IF;
        INSERT INTO accounts_ledgerentry (
            id, tenant_id, kind, period, hold_id, tariff_id, turn_id, received_micros, amount_micros, cost_micros,
            result_micros, included_micros, dearest_micros, estimated, memo, source, call_id, conversation_id,
            chatbot_id, number, provider, model, tier, outcome, price_version, input_tokens, output_tokens)
        SELECT c.id, held.tenant_id, 'charge', held.period, held.id, held.tariff_id, held.turn_id, 0,
               c.included - c.price, c.cost_micros, c.price - c.included - c.cost_micros, c.included, c.dearest_micros,
               c.estimated, '', c.source, c.call_id, c.conversation_id, c.chatbot_id, c.number, c.provider, c.model,
               c.tier, c.outcome, c.price_version, c.input_tokens, c.output_tokens
        FROM (SELECT told.*, -told.amount_micros AS price,
                     greatest(0, least(-told.amount_micros, covered - told.amount_micros
                                       + sum(told.amount_micros) OVER (ORDER BY told.place)))::bigint AS included
              FROM (SELECT c.*, place FROM jsonb_array_elements(charges) WITH ORDINALITY AS each (charge, place),
                    jsonb_populate_record(NULL::accounts_ledgerentry, charge) AS c) told) c;
        UPDATE accounts_hold SET settled_at = statement_timestamp(), spent_micros = price - covered WHERE id = held.id;
        UPDATE accounts_account
        SET balance_micros = balance_micros - price + covered, held_micros = held_micros - held.amount_micros
        WHERE tenant_id = held.tenant_id;
        RETURN true;
    END $$;
"""

NOTHING = """
    DROP FUNCTION settle_hold(uuid, bigint, jsonb);
    DROP FUNCTION place_hold(uuid, uuid, uuid, date, uuid, bigint, bigint, text, text, text);
    DROP FUNCTION count_in_budgets(uuid[], bigint, bigint);
    DROP FUNCTION touched_budgets(uuid, text, text, text);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0007_holds_stay'),
    ]

    operations = [
        # A correction of a call may take tokens back.
        migrations.AlterField(
            model_name='ledgerentry',
            name='input_tokens',
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='output_tokens',
            field=models.IntegerField(default=0),
        ),
        migrations.AddConstraint(
            model_name='ledgerentry',
            constraint=models.CheckConstraint(
                condition=models.Q(kind='adjustment') | models.Q(input_tokens__gte=0, output_tokens__gte=0),
                name='only_a_correction_takes_tokens_back',
            ),
        ),
        migrations.RunSQL(TOUCHED + COUNT + PLACE + SETTLE, NOTHING),
    ]
