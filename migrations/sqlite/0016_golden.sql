-- The golden set: a call and what people said of it, with its own copy of the redacted texts.
CREATE TABLE golden (
    golden_id      TEXT    PRIMARY KEY,            -- UUIDv5 of data set and call
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    dataset        TEXT    NOT NULL,
    tenant_id      TEXT    NOT NULL,
    feature        TEXT    NOT NULL,
    content        TEXT    NOT NULL,               -- JSON
    digest         TEXT    NOT NULL,               -- SHA-256 of the content
    promoted_ms    INTEGER NOT NULL,
    changed_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX golden_by_dataset ON golden (dataset, golden_id);
CREATE INDEX golden_by_evaluation ON golden (evaluation_id);

-- Who changed what when; nothing is changed here, and no text of a call is in it.
CREATE TABLE golden_history (
    entry_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    golden_id      TEXT    NOT NULL,
    dataset        TEXT    NOT NULL,
    tenant_id      TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    change         TEXT    NOT NULL CHECK (change IN ('promoted', 'edited', 'removed', 'erased')),
    done_by        TEXT    NOT NULL,
    digest         TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL
) STRICT;
CREATE INDEX golden_history_by_row ON golden_history (golden_id, entry_id);

-- What a sink is told of in place of the scores of the evaluation: a row of the golden set, as it is when it is sent.
ALTER TABLE outbox ADD COLUMN golden_id TEXT;
