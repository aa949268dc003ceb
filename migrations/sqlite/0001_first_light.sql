-- Queue and store of a single machine. Times are Unix milliseconds by the database's clock.

-- The queue. A row is leased, not locked: lease_token fences a worker that was paused past its lease.
CREATE TABLE queue (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    payload        BLOB    NOT NULL,
    enqueued_ms    INTEGER NOT NULL,
    available_ms   INTEGER NOT NULL,               -- not before this time: retries and leases share the column
    lease_token    TEXT,                           -- who works on it; NULL when nobody does
    deliveries     INTEGER NOT NULL DEFAULT 0      -- how often it was handed out
) STRICT;
CREATE INDEX queue_due ON queue (available_ms, id);

-- Attempts on a payload, counted before the work so that a payload that kills the process is counted too.
-- The row goes with the evaluation or the dead letter that ends the payload.
CREATE TABLE attempts (
    payload_digest TEXT PRIMARY KEY,
    attempts       INTEGER NOT NULL,
    first_ms       INTEGER NOT NULL,
    last_ms        INTEGER NOT NULL
) STRICT;

-- Calls as they were received (first body wins; a later different body is a ledger entry).
CREATE TABLE calls (
    tenant_id      TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    body_digest    TEXT    NOT NULL,
    body           TEXT    NOT NULL,
    feature        TEXT    NOT NULL,
    occurred_ms    INTEGER NOT NULL,
    received_ms    INTEGER NOT NULL,
    source         TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
) STRICT, WITHOUT ROWID;

-- One row per call and evaluator version, for ever. The unique key is what makes the effect happen once.
CREATE TABLE evaluations (
    evaluation_id      TEXT    PRIMARY KEY,
    tenant_id          TEXT    NOT NULL,
    request_id         TEXT    NOT NULL,
    evaluator_version  TEXT    NOT NULL,
    trace_id           TEXT    NOT NULL,
    span_id            TEXT,
    feature            TEXT    NOT NULL,
    occurred_at        TEXT    NOT NULL,
    evaluated_at       TEXT    NOT NULL,
    evaluated_ms       INTEGER NOT NULL,
    verdict            TEXT    NOT NULL CHECK (verdict IN ('pass', 'fail', 'review', 'not_applicable')),
    decided_by         TEXT    NOT NULL,
    reasons            TEXT    NOT NULL,           -- JSON array of codes
    faithfulness       REAL    CHECK (faithfulness BETWEEN 0 AND 1),
    truncated          INTEGER NOT NULL,
    tokens_cut         INTEGER NOT NULL,
    judge              TEXT,                       -- JSON object or NULL
    stages             TEXT    NOT NULL,           -- JSON array
    cost_usd           REAL    NOT NULL,
    judge_avoided_usd  REAL,
    probability        REAL    NOT NULL CHECK (probability > 0 AND probability <= 1),
    UNIQUE (tenant_id, request_id, evaluator_version),
    FOREIGN KEY (tenant_id, request_id) REFERENCES calls (tenant_id, request_id)
) STRICT;
CREATE INDEX evaluations_by_time ON evaluations (evaluated_ms);

CREATE TABLE claims (
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    position       INTEGER NOT NULL,
    claim_start    INTEGER NOT NULL,
    claim_end      INTEGER NOT NULL,
    entailment     REAL    NOT NULL CHECK (entailment BETWEEN 0 AND 1),
    neutral        REAL    NOT NULL CHECK (neutral BETWEEN 0 AND 1),
    contradiction  REAL    NOT NULL CHECK (contradiction BETWEEN 0 AND 1),
    chunk_id       TEXT    NOT NULL,
    chunk_start    INTEGER NOT NULL,
    chunk_end      INTEGER NOT NULL,
    label          TEXT    NOT NULL,
    PRIMARY KEY (evaluation_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE rule_outcomes (
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    position       INTEGER NOT NULL,
    rule           TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    detail         TEXT    NOT NULL,
    spans          TEXT    NOT NULL,               -- JSON array
    PRIMARY KEY (evaluation_id, position)
) STRICT, WITHOUT ROWID;

-- What is written to trace backends: one score per name.
CREATE TABLE scores (
    score_id       TEXT    PRIMARY KEY,            -- UUIDv5 of evaluation and name
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    name           TEXT    NOT NULL,
    value          REAL,
    label          TEXT,
    UNIQUE (evaluation_id, name)
) STRICT;

CREATE TABLE review_items (
    review_id      TEXT    PRIMARY KEY,            -- UUIDv5 of the evaluation
    evaluation_id  TEXT    NOT NULL UNIQUE REFERENCES evaluations (evaluation_id),
    reason         TEXT    NOT NULL,
    probability    REAL    NOT NULL CHECK (probability > 0 AND probability <= 1),
    created_ms     INTEGER NOT NULL,
    state          TEXT    NOT NULL DEFAULT 'open'
) STRICT;

-- Transactional outbox: written with the verdict, delivered later, again and again until it is done.
CREATE TABLE outbox (
    delivery_id    TEXT    PRIMARY KEY,            -- UUIDv5 of sink and evaluation
    sink           TEXT    NOT NULL,
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    created_ms     INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    attempts       INTEGER NOT NULL DEFAULT 0,
    delivered_ms   INTEGER,
    dead_reason    TEXT,
    last_error     TEXT
) STRICT;
CREATE INDEX outbox_due ON outbox (sink, due_ms) WHERE delivered_ms IS NULL AND dead_reason IS NULL;
CREATE INDEX outbox_by_evaluation ON outbox (evaluation_id);

CREATE TABLE dead_letters (
    dead_letter_id TEXT    PRIMARY KEY,            -- UUIDv5 of the payload
    payload        BLOB    NOT NULL,
    class          TEXT    NOT NULL,
    pointer        TEXT    NOT NULL,
    detail         TEXT    NOT NULL,
    remedy         TEXT    NOT NULL,
    tenant_id      TEXT,
    request_id     TEXT,
    attempts       INTEGER NOT NULL,
    source         TEXT    NOT NULL,
    created_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_request ON dead_letters (request_id);

-- Append-only history of what happened to a call and why.
CREATE TABLE ledger (
    entry_id       INTEGER PRIMARY KEY,
    tenant_id      TEXT,
    request_id     TEXT,
    event          TEXT    NOT NULL,               -- evaluated, conflict, dead, requeued, dropped
    detail         TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL,
    UNIQUE (request_id, tenant_id, event, detail)
) STRICT;
