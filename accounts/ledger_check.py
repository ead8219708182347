"""What must be true of a tenant's books, as one query that names every exception.

Read by `accounts.ledger.check` inside the tenant's transaction, where row-level security narrows
each table to that tenant. One statement is one snapshot: it can run while turns are settled.
"""

from __future__ import annotations

INVARIANTS = """
WITH entries AS (SELECT * FROM accounts_ledgerentry),
     holds AS (SELECT * FROM accounts_hold),
     sums AS (
         SELECT (SELECT coalesce(sum(amount_micros), 0) FROM entries) AS balance,
                (SELECT coalesce(sum(amount_micros), 0) FROM holds WHERE settled_at IS NULL) AS held
     ),
     hold_sums AS (
         SELECT h.id, h.turn_id, h.settled_at, h.spent_micros, count(e.id) AS entries,
                -coalesce(sum(e.amount_micros), 0) AS spent
         FROM holds h LEFT JOIN entries e ON e.hold_id = h.id
         GROUP BY h.id, h.turn_id, h.settled_at, h.spent_micros
     ),
     call_sums AS (
         SELECT call_id, -sum(amount_micros) AS paid, count(*) FILTER (WHERE kind = 'charge') AS charges,
                sum(cost_micros) AS cost, sum(included_micros) AS covered,
                least(sum(input_tokens), sum(output_tokens)) AS tokens
         FROM entries WHERE call_id IS NOT NULL GROUP BY call_id
     ),
     sides AS (
         SELECT id, greatest(received_micros, 0) + greatest(-amount_micros, 0) + greatest(-cost_micros, 0)
                    + greatest(-result_micros, 0) AS debits,
                greatest(-received_micros, 0) + greatest(amount_micros, 0) + greatest(cost_micros, 0)
                    + greatest(result_micros, 0) AS credits
         FROM entries
     ),
     quota_used AS (
         SELECT coalesce(a.period, e.period) AS month, coalesce(a.used_micros, 0) AS told, coalesce(e.used, 0) AS found
         FROM accounts_allowance a FULL JOIN (
             SELECT h.period, sum(e.included_micros) AS used
             FROM entries e JOIN holds h ON h.id = e.hold_id GROUP BY h.period HAVING sum(e.included_micros) <> 0
         ) e ON e.period = a.period
     ),
     quota_held AS (
         SELECT coalesce(a.period, h.period) AS month, coalesce(a.held_micros, 0) AS told, coalesce(h.held, 0) AS found
         FROM accounts_allowance a FULL JOIN (
             SELECT period, sum(included_micros) AS held
             FROM holds WHERE settled_at IS NULL GROUP BY period HAVING sum(included_micros) <> 0
         ) h ON h.period = a.period
     ),
     reserved AS (
         SELECT unnest(spendings) AS spending, id AS hold_id, settled_at, amount_micros + included_micros AS most
         FROM holds WHERE cardinality(spendings) > 0
     ),
     counted AS (
         SELECT s.id, s.spent_micros, s.held_micros, coalesce(e.spent, 0) AS spent, coalesce(h.held, 0) AS held
         FROM accounts_budgetspending s
         LEFT JOIN (SELECT r.spending, sum(e.included_micros - e.amount_micros) AS spent
                    FROM reserved r JOIN entries e ON e.hold_id = r.hold_id GROUP BY r.spending) e ON e.spending = s.id
         LEFT JOIN (SELECT spending, sum(most) AS held
                    FROM reserved WHERE settled_at IS NULL GROUP BY spending) h ON h.spending = s.id
     )
SELECT format('the balance is %s, the entries come to %s', a.balance_micros, s.balance)
FROM accounts_account a, sums s WHERE a.balance_micros <> s.balance
UNION ALL
SELECT format('%s is held, the open holds come to %s', a.held_micros, s.held)
FROM accounts_account a, sums s WHERE a.held_micros <> s.held
UNION ALL
SELECT format('there are %s entries and %s holds but no account', e.n, h.n)
FROM (SELECT count(*) AS n FROM entries) e, (SELECT count(*) AS n FROM holds) h
WHERE e.n + h.n > 0 AND NOT EXISTS (SELECT FROM accounts_account)
UNION ALL
SELECT format('the hold of turn %s says %s was spent, its entries come to %s', turn_id, spent_micros, spent)
FROM hold_sums WHERE settled_at IS NOT NULL AND spent_micros <> spent
UNION ALL
SELECT format('the hold of turn %s is open and has %s entries', turn_id, entries)
FROM hold_sums WHERE settled_at IS NULL AND entries > 0
UNION ALL
SELECT format('entry %s of turn %s stands on no hold of that turn', e.id, e.turn_id)
FROM entries e LEFT JOIN holds h ON h.id = e.hold_id
WHERE e.kind IN ('charge', 'adjustment') AND (h.id IS NULL OR h.turn_id IS DISTINCT FROM e.turn_id)
UNION ALL
SELECT format('call %s is corrected but was never charged', call_id) FROM call_sums WHERE charges = 0
UNION ALL
SELECT format('call %s was charged %s in all', call_id, paid) FROM call_sums WHERE paid < 0
UNION ALL
SELECT format('call %s cost %s in all', call_id, cost) FROM call_sums WHERE cost < 0
UNION ALL
SELECT format('call %s was covered with %s in all', call_id, covered) FROM call_sums WHERE covered < 0
UNION ALL
SELECT format('call %s used %s tokens in all', call_id, tokens) FROM call_sums WHERE tokens < 0
UNION ALL
SELECT format('entry %s debits %s and credits %s', id, debits, credits) FROM sides WHERE debits <> credits
UNION ALL
SELECT format('adjustment %s corrects no charge of its call', e.id)
FROM entries e LEFT JOIN entries c ON c.id = e.corrects_id
WHERE e.kind = 'adjustment' AND (c.kind IS DISTINCT FROM 'charge' OR c.call_id IS DISTINCT FROM e.call_id)
UNION ALL
SELECT format('the quota of %s says %s is used, its entries come to %s', month, told, found)
FROM quota_used WHERE told <> found
UNION ALL
SELECT format('the quota of %s says %s is reserved, its open holds come to %s', month, told, found)
FROM quota_held WHERE told <> found
UNION ALL
SELECT format('budget spending %s says %s is spent, its entries come to %s', id, spent_micros, spent)
FROM counted WHERE spent_micros <> spent
UNION ALL
SELECT format('budget spending %s says %s is held, its open holds come to %s', id, held_micros, held)
FROM counted WHERE held_micros <> held
UNION ALL
SELECT format('statement %s says %s is left, the entries come to %s', s.number, s.closing_micros, e.closing)
FROM accounts_statement s,
     LATERAL (SELECT coalesce(sum(amount_micros), 0) AS closing FROM entries WHERE period <= s.period) e
WHERE s.closing_micros <> e.closing
UNION ALL
SELECT format('statement %s opens with %s and closes with %s, its lines come to %s',
              s.number, s.opening_micros, s.closing_micros, l.total)
FROM accounts_statement s,
     LATERAL (SELECT coalesce(sum((line->>'amount_micros')::bigint), 0) AS total
              FROM jsonb_array_elements(s.lines) line) l
WHERE s.opening_micros + l.total <> s.closing_micros
UNION ALL
SELECT format('there are %s statements, the last is number %s', count(*), max(number))
FROM accounts_statement HAVING count(*) <> coalesce(max(number), 0)
"""
