-- What a sink is to delete, because its call was erased, waits where deliveries wait: in place of an evaluation.
CREATE TABLE outbox_new (
    delivery_id    TEXT    PRIMARY KEY,            -- UUIDv8 of sink and evaluation; UUIDv5 of what is retracted
    sink           TEXT    NOT NULL,
    evaluation_id  TEXT    REFERENCES evaluations (evaluation_id),
    retracts       TEXT,                           -- JSON
    created_ms     INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    attempts       INTEGER NOT NULL DEFAULT 0,
    delivered_ms   INTEGER,
    dead_reason    TEXT,
    last_error     TEXT,
    CHECK ((evaluation_id IS NULL) <> (retracts IS NULL))
) STRICT;
INSERT INTO outbox_new (delivery_id, sink, evaluation_id, created_ms, due_ms, attempts, delivered_ms, dead_reason, last_error)
SELECT delivery_id, sink, evaluation_id, created_ms, due_ms, attempts, delivered_ms, dead_reason, last_error FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_new RENAME TO outbox;
CREATE INDEX outbox_due ON outbox (sink, due_ms) WHERE delivered_ms IS NULL AND dead_reason IS NULL;
CREATE INDEX outbox_by_evaluation ON outbox (evaluation_id);
-- Dead letters go with age.
CREATE INDEX dead_letters_by_time ON dead_letters (created_ms);
