-- From when everything that was evaluated is there: before it some was pruned, and what is left was kept for a reason. One row.
CREATE TABLE prune_horizon (
    evaluated_ms   INTEGER NOT NULL
) STRICT;
-- Of what may be pruned, a file that was pruned before this has nothing that is older.
INSERT INTO prune_horizon (evaluated_ms)
SELECT coalesce((SELECT evaluated_ms FROM evaluations e
    WHERE NOT EXISTS (SELECT 1 FROM golden g WHERE g.evaluation_id = e.evaluation_id)
        AND NOT EXISTS (SELECT 1 FROM review_items r WHERE r.evaluation_id = e.evaluation_id AND state <> 'closed')
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.evaluation_id = e.evaluation_id
            AND delivered_ms IS NULL AND dead_reason IS NULL)
    ORDER BY evaluated_ms LIMIT 1), 0);

-- What is decided is listed page by page as well.
CREATE INDEX review_items_closed ON review_items (rank_ms, review_id) WHERE state = 'closed';
