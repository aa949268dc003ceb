-- When a delivery was given up: what a sink has given up lately is counted by it, however long it was tried before.
ALTER TABLE outbox ADD COLUMN dead_ms INTEGER;
-- An older version marked as delivered what another worker had given up: it is delivered.
UPDATE outbox SET dead_reason = NULL, dropped_ms = NULL WHERE delivered_ms IS NOT NULL AND dead_reason IS NOT NULL;
UPDATE outbox SET dead_ms = created_ms WHERE dead_reason IS NOT NULL;
CREATE INDEX outbox_given_up ON outbox (sink, dead_ms) WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL;

-- What is known of sinks beside their deliveries, to tell one that is down from one that takes others, and what waited for a
-- person from what waits for the sink. A row for each sink, not an index of when each delivery was made: of millions only the
-- newest counts, and each would be written into it.
CREATE TABLE sink_marks (
    sink           TEXT    PRIMARY KEY,
    taken_ms       INTEGER, -- when it last did what it was sent; up to a second too early, because it is written once a second
    resumed_ms     INTEGER  -- when somebody last ended a pause
) STRICT;
INSERT INTO sink_marks (sink, taken_ms)
SELECT sink, max(delivered_ms) FROM outbox WHERE delivered_ms IS NOT NULL GROUP BY sink;
