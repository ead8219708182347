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
         SELECT call_id, -sum(amount_micros) AS paid, count(*) FILTER (WHERE kind = 'charge') AS charges
         FROM entries WHERE call_id IS NOT NULL GROUP BY call_id
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
WHERE e.kind <> 'top_up' AND (h.id IS NULL OR h.turn_id IS DISTINCT FROM e.turn_id)
UNION ALL
SELECT format('call %s is corrected but was never charged', call_id) FROM call_sums WHERE charges = 0
UNION ALL
SELECT format('call %s was charged %s in all', call_id, paid) FROM call_sums WHERE paid < 0
"""
