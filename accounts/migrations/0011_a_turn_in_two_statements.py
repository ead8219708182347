import django.db.models.deletion
from django.db import migrations, models

# What holds for whatever begins now: month and tariff. A clock that was set back, or a time zone further west, does
# not lead back into a month that is closed.
NOW = """
    CREATE FUNCTION terms_now(the_tenant uuid)
    RETURNS TABLE (period date, tariff_id uuid, margin numeric, reply_micros bigint, included_micros bigint)
    LANGUAGE sql STABLE AS $$
        SELECT greatest(date_trunc('month', statement_timestamp() AT TIME ZONE t.time_zone)::date,
                        (SELECT max(s.period) + interval '1 month' FROM accounts_statement s
                         WHERE s.tenant_id = t.id)::date),
               f.id, f.margin, f.reply_micros, f.included_micros
        FROM accounts_tenant t
        LEFT JOIN LATERAL (
            SELECT * FROM accounts_tariff
            WHERE tenant_id = t.id AND valid_from <= statement_timestamp() ORDER BY valid_from DESC LIMIT 1
        ) f ON true
        WHERE t.id = the_tenant
    $$;
"""

# What the tenant pays for a call that cost so much, before any quota; a tariff has a price for a reply or a margin,
# and without one the tenant pays what the provider charges. The margin is rounded down, once a call: so the prices of
# a turn's calls never come to more than the price of their sum, which is what was held.
PRICE = """
    CREATE FUNCTION price_of(cost bigint, outcome text, margin numeric, reply bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN reply IS NOT NULL THEN CASE outcome WHEN 'accepted' THEN reply ELSE 0 END
                    WHEN margin IS NOT NULL THEN cost + floor(cost * margin)::bigint
                    ELSE cost END
    $$;
"""

# Sets aside the most that a turn can cost; else says what is wanting: [budget, needed, free, held by others] for each
# hard budget without room, and without a budget where the money does not suffice. What others hold may be free in a
# moment.
# Plans are kept for as long as a connection lives, perhaps from when a table was empty: rows are found by their keys.
# It names its tenant itself, so it can be a transaction of its own, in one round trip. That does not wait for the
# disk, and so holds no lock meanwhile: before a model is called the call is put on record in a transaction that does,
# and with it is all that was committed before.
HOLD = """
    CREATE FUNCTION hold_turn(
        the_tenant uuid, new_hold uuid, the_turn uuid, cost bigint, chatbot text, segment text, customer text
    ) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off AS $$
    DECLARE
        terms record;
        spending record;
        counting uuid[] := '{}';
        wanting jsonb := '[]';
        short boolean := false;
        most bigint;
        covered bigint := 0;
        of_others bigint := 0;
    BEGIN
        PERFORM set_config('app.tenant', the_tenant::text, true), set_config('synchronous_commit', 'off', true);
        SELECT t.*, price_of(cost, 'accepted', t.margin, t.reply_micros) AS most,
               EXISTS (SELECT FROM accounts_hold h WHERE h.turn_id = the_turn) AS held,
               EXISTS (SELECT FROM accounts_budget b WHERE b.tenant_id = the_tenant) AS limited
        INTO terms FROM terms_now(the_tenant) t;
        most := coalesce(terms.most, cost);
        IF terms.held THEN
            RAISE unique_violation USING MESSAGE = 'the turn has a hold';
        END IF;
        IF terms.limited THEN
            counting := spendings_of(the_tenant, chatbot, segment, customer);
            FOR spending IN
                SELECT s.budget_id, s.held_micros,
                       (SELECT b.limit_micros FROM accounts_budget b WHERE b.id = s.budget_id AND b.hard)
                       - s.spent_micros - s.held_micros AS room
                FROM accounts_budgetspending s WHERE s.id = ANY(counting) ORDER BY s.id FOR UPDATE
            LOOP
                IF spending.room < most THEN
                    wanting := wanting || jsonb_build_array(
                        jsonb_build_array(spending.budget_id, most, spending.room, spending.held_micros));
                END IF;
            END LOOP;
        END IF;
        IF terms.included_micros > 0 THEN
            INSERT INTO accounts_allowance (id, tenant_id, period, used_micros, held_micros)
            VALUES (gen_random_uuid(), the_tenant, terms.period, 0, 0) ON CONFLICT DO NOTHING;
            SELECT greatest(0, least(most, terms.included_micros - a.used_micros - a.held_micros)),
                   greatest(0, terms.included_micros - a.used_micros)
            INTO covered, of_others
            FROM accounts_allowance a WHERE a.tenant_id = the_tenant AND a.period = terms.period FOR UPDATE;
        END IF;
        IF wanting = '[]' THEN
            UPDATE accounts_account a SET held_micros = a.held_micros + most - covered
            WHERE a.tenant_id = the_tenant AND a.balance_micros >= a.held_micros + most - covered;
            short := NOT FOUND;
        END IF;
        IF short OR wanting <> '[]' THEN
            RETURN wanting || coalesce((
                SELECT jsonb_build_array(jsonb_build_array(
                    NULL, most - covered, coalesce(a.balance_micros - a.held_micros, 0),
                    coalesce(a.held_micros, 0) + of_others - covered))
                FROM (VALUES (1)) AS one LEFT JOIN accounts_account a ON a.tenant_id = the_tenant
                WHERE short OR coalesce(a.balance_micros - a.held_micros, -1) < most - covered
            ), '[]');
        END IF;
        IF cardinality(counting) > 0 THEN
            UPDATE accounts_budgetspending s SET held_micros = s.held_micros + most WHERE s.id = ANY(counting);
        END IF;
        IF terms.included_micros > 0 THEN
            UPDATE accounts_allowance a SET held_micros = a.held_micros + covered
            WHERE a.tenant_id = the_tenant AND a.period = terms.period;
        END IF;
        INSERT INTO accounts_hold
            (id, tenant_id, turn_id, period, tariff_id, included_micros, amount_micros, spendings)
        VALUES (new_hold, the_tenant, the_turn, terms.period, terms.tariff_id, covered, most - covered, counting);
        RETURN NULL;
    END $$;

    -- What has been spent of the budgets that the turn touches; what has not begun yet begins.
    CREATE FUNCTION spendings_of(the_tenant uuid, chatbot text, segment text, customer text) RETURNS uuid[]
    LANGUAGE plpgsql AS $$
    DECLARE
        found uuid[];
    BEGIN
        FOR attempt IN 1..2 LOOP
            SELECT coalesce(array_agg(s.id), '{}') INTO found
            FROM touched_budgets(the_tenant, chatbot, segment, customer) t LEFT JOIN accounts_budgetspending s
                 ON (s.budget_id, s.starts, s.subject) = (t.budget_id, t.starts, t.subject);
            EXIT WHEN array_position(found, NULL) IS NULL;
            INSERT INTO accounts_budgetspending (id, tenant_id, budget_id, starts, subject, spent_micros, held_micros)
            SELECT gen_random_uuid(), the_tenant, t.budget_id, t.starts, t.subject, 0, 0
            FROM touched_budgets(the_tenant, chatbot, segment, customer) t ON CONFLICT DO NOTHING;
        END LOOP;
        RETURN array_remove(found, NULL);
    END $$;
"""

# A turn, or a correction of one, cost so much; what was reserved for it is free again; shares reached are events.
COUNT = """
    CREATE OR REPLACE FUNCTION count_in_budgets(spendings uuid[], price bigint, released bigint) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        IF cardinality(spendings) = 0 THEN RETURN; END IF;
        WITH locked AS (
            SELECT id FROM accounts_budgetspending WHERE id = ANY(spendings) ORDER BY id FOR UPDATE
        ), counted AS (
            UPDATE accounts_budgetspending s
            SET spent_micros = s.spent_micros + price, held_micros = s.held_micros - released
            FROM locked WHERE s.id = locked.id RETURNING s.id, s.tenant_id, s.budget_id, s.spent_micros
        )
        INSERT INTO accounts_budgetevent (id, tenant_id, spending_id, share, spent_micros)
        SELECT gen_random_uuid(), s.tenant_id, s.id, b.share, s.spent_micros
        FROM counted s,
             LATERAL (SELECT limit_micros, unnest(shares) AS share FROM accounts_budget WHERE id = s.budget_id OFFSET 0) b
        WHERE s.spent_micros > 0 AND s.spent_micros::numeric * 100 >= b.limit_micros::numeric * b.share
        ON CONFLICT DO NOTHING;
    END $$;
"""

# Charges a turn and releases the rest of its hold; false: that was done before; null: it has no hold. `charges` are
# the columns of entries, as JSON: the hold's tariff prices them, what is left of its quota covers them in their order.
# What the tenant's other turns need too is locked last, and only for a quota earlier, always in one order.
SETTLE = """
    CREATE FUNCTION cover(charges jsonb, covered bigint, margin numeric, reply bigint) RETURNS jsonb
    LANGUAGE sql IMMUTABLE AS $$
        SELECT jsonb_agg(charge || jsonb_build_object('included_micros', greatest(0, least(price, covered - before)))
                         ORDER BY place)
        FROM (SELECT charge, place, price, sum(price) OVER (ORDER BY place) - price AS before
              FROM (SELECT charge, place,
                           price_of((charge->>'cost_micros')::bigint, charge->>'outcome', margin, reply) AS price
                    FROM jsonb_array_elements(charges) WITH ORDINALITY AS told (charge, place)) priced) summed
    $$;

    CREATE FUNCTION settle_turn(the_tenant uuid, the_turn uuid, charges jsonb) RETURNS boolean
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
    DECLARE
        held record;
        month accounts_allowance;
        covered bigint := 0;
    BEGIN
        PERFORM set_config('app.tenant', the_tenant::text, true);
        SELECT h.*, f.margin, f.reply_micros AS reply, coalesce(f.included_micros, 0) AS quota,
               (SELECT coalesce(sum(price_of(c.cost_micros, c.outcome, f.margin, f.reply_micros)), 0)::bigint
                FROM jsonb_to_recordset(charges) AS c (cost_micros bigint, outcome text)) AS price
        INTO held
        FROM accounts_hold h LEFT JOIN accounts_tariff f ON f.id = h.tariff_id WHERE h.turn_id = the_turn
        FOR UPDATE OF h;
        IF NOT FOUND THEN RETURN NULL; END IF;
        IF held.settled_at IS NOT NULL THEN RETURN false; END IF;
        PERFORM set_config('synchronous_commit', 'off', true);
        IF held.quota > 0 THEN
            PERFORM FROM accounts_budgetspending WHERE id = ANY(held.spendings) ORDER BY id FOR UPDATE;
            SELECT * INTO month FROM accounts_allowance
            WHERE tenant_id = the_tenant AND period = held.period FOR UPDATE;
            covered := greatest(
                0, least(held.price, held.quota - month.used_micros - month.held_micros + held.included_micros));
            charges := cover(charges, covered, held.margin, held.reply);
        END IF;
        UPDATE accounts_hold SET settled_at = statement_timestamp(), spent_micros = held.price - covered WHERE id = held.id;
        IF jsonb_array_length(charges) > 0 THEN
            INSERT INTO accounts_ledgerentry (
                id, tenant_id, kind, period, hold_id, tariff_id, turn_id, received_micros, amount_micros, cost_micros,
                result_micros, included_micros, dearest_micros, estimated, memo, source, call_id, conversation_id,
                chatbot_id, number, provider, model, tier, outcome, price_version, input_tokens, output_tokens)
            SELECT c.id, the_tenant, 'charge', held.period, held.id, held.tariff_id, the_turn, 0,
                   coalesce(c.included_micros, 0) - price_of(c.cost_micros, c.outcome, held.margin, held.reply), c.cost_micros,
                   price_of(c.cost_micros, c.outcome, held.margin, held.reply) - coalesce(c.included_micros, 0) - c.cost_micros,
                   coalesce(c.included_micros, 0), c.dearest_micros, c.estimated, '', c.source, c.call_id, c.conversation_id,
                   c.chatbot_id, c.number, c.provider, c.model, c.tier, c.outcome, c.price_version, c.input_tokens,
                   c.output_tokens
            FROM jsonb_to_recordset(charges) AS c (
                id uuid, call_id uuid, conversation_id uuid, chatbot_id uuid, number smallint, tier smallint, source text,
                provider text, model text, outcome text, price_version text, cost_micros bigint, dearest_micros bigint,
                included_micros bigint,
                estimated boolean, input_tokens integer, output_tokens integer);
        END IF;
        PERFORM count_in_budgets(held.spendings, held.price, held.amount_micros + held.included_micros);
        IF held.quota > 0 THEN
            UPDATE accounts_allowance
            SET used_micros = used_micros + covered, held_micros = held_micros - held.included_micros
            WHERE id = month.id;
        END IF;
        UPDATE accounts_account
        SET balance_micros = balance_micros - held.price + covered, held_micros = held_micros - held.amount_micros
        WHERE tenant_id = the_tenant;
        RETURN true;
    END $$;
"""

# Entries that are written must be of an open month, and come to what their hold says. The hold says it first: what it
# says without entries is found out at the commit, by the trigger that it has.
PROVE = """
    DROP TRIGGER proven ON accounts_ledgerentry;
    DROP TRIGGER month_is_open ON accounts_ledgerentry;
    DROP FUNCTION refuse_closed_month();

    CREATE FUNCTION refuse_unproven_entries() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        wrong record;
    BEGIN
        SELECT w.*, h.spent_micros, e.entries, e.charged INTO wrong
        FROM (SELECT DISTINCT hold_id, turn_id, period, tenant_id,
                     EXISTS (SELECT FROM accounts_statement s WHERE s.tenant_id = n.tenant_id AND s.period >= n.period)
                     AS closed
              FROM written n) w
        LEFT JOIN accounts_hold h ON h.id = w.hold_id
        LEFT JOIN LATERAL (SELECT count(*) AS entries, -sum(amount_micros) AS charged FROM accounts_ledgerentry
                           WHERE tenant_id = w.tenant_id AND hold_id = w.hold_id) e ON w.hold_id IS NOT NULL
        WHERE w.closed OR h.spent_micros IS DISTINCT FROM e.charged LIMIT 1;
        IF wrong.closed THEN
            RAISE EXCEPTION 'the month of % is closed', wrong.period USING ERRCODE = 'restrict_violation';
        ELSIF FOUND THEN
            RAISE EXCEPTION 'the hold of turn % says % was spent, its % entries come to %',
                wrong.turn_id, wrong.spent_micros, wrong.entries, wrong.charged USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER proven AFTER INSERT ON accounts_ledgerentry REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unproven_entries();

    CREATE OR REPLACE FUNCTION refuse_unproven_hold() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        held record;
    BEGIN
        SELECT h.turn_id, h.settled_at, h.spent_micros, e.entries, e.charged INTO held
        FROM accounts_hold h,
        LATERAL (SELECT count(*) AS entries, coalesce(-sum(amount_micros), 0) AS charged FROM accounts_ledgerentry
                 WHERE tenant_id = h.tenant_id AND hold_id = h.id) e
        WHERE h.id = NEW.id;
        IF held.settled_at IS NULL AND held.entries > 0
           OR held.settled_at IS NOT NULL AND held.spent_micros IS DISTINCT FROM held.charged THEN
            RAISE EXCEPTION 'the hold of turn % says % was spent, its % entries come to %',
                held.turn_id, held.spent_micros, held.entries, held.charged USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$;
"""

# For a process that was started before this migration and finishes its turns after it; no later one calls it.
EARLIER = """
    CREATE OR REPLACE FUNCTION settle_hold(the_turn uuid, quota bigint, charges jsonb) RETURNS boolean
    LANGUAGE plpgsql AS $$
    DECLARE
        settled boolean;
    BEGIN
        settled := settle_turn(current_setting('app.tenant')::uuid, the_turn, charges);
        PERFORM set_config('synchronous_commit', 'on', true);
        RETURN settled;
    END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0010_rest_api'),
    ]

    operations = [
        migrations.RemoveIndex(model_name='hold', name='open_holds'),
        migrations.AlterField(
            model_name='hold',
            name='tariff',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.tariff'),
        ),
        migrations.AlterField(
            model_name='hold',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='corrects',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='accounts.ledgerentry'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='hold',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='accounts.hold'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='tariff',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.tariff'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant'),
        ),
        migrations.AlterField(
            model_name='budgetspending',
            name='budget',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='spendings', to='accounts.budget'),
        ),
        migrations.AlterField(
            model_name='budgetspending',
            name='tenant',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.tenant'),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('settled_at', None)), fields=['tenant', 'period'], name='open_holds'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('hold__isnull', False)), fields=['tenant', 'hold'], name='entries_by_hold'),
        ),
        migrations.RunSQL(NOW + PRICE + HOLD + COUNT + SETTLE + PROVE + EARLIER),
    ]
