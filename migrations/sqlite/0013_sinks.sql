-- Sinks that somebody has paused: nothing of theirs is due.
CREATE TABLE paused_sinks (
    sink           TEXT    PRIMARY KEY,
    since_ms       INTEGER NOT NULL
) STRICT;
ALTER TABLE outbox ADD COLUMN requeued_ms INTEGER; -- its age counts from then
ALTER TABLE outbox ADD COLUMN dropped_ms INTEGER;  -- dead, and somebody has seen it
CREATE INDEX outbox_dead ON outbox (sink, created_ms) WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL;
