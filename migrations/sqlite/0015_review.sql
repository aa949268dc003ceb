-- The queue of what a person should look at. The order is fixed when an item is written: when it came, less the head start that
-- it has for what its label would tell.
CREATE TABLE review_items_new (
    review_id      TEXT    PRIMARY KEY,            -- UUIDv8 of the evaluation
    evaluation_id  TEXT    NOT NULL UNIQUE REFERENCES evaluations (evaluation_id),
    tenant_id      TEXT    NOT NULL,
    feature        TEXT    NOT NULL,
    prompt_version TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    probability    REAL    NOT NULL CHECK (probability > 0 AND probability <= 1),
    created_ms     INTEGER NOT NULL,
    rank_ms        INTEGER NOT NULL,               -- the lowest is next
    wanted         INTEGER NOT NULL DEFAULT 1,     -- labels, each by another person
    state          TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'disputed', 'closed')),
    held_by        TEXT,                           -- who looks at it
    hold_token     TEXT,                           -- fences who held it before
    held_until_ms  INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO review_items_new (review_id, evaluation_id, tenant_id, feature, prompt_version, model, reason, probability,
    created_ms, rank_ms, state)
SELECT review_id, evaluation_id, tenant_id, e.feature, coalesce(iif(body = '', NULL, body ->> 'prompt_version'), ''),
    coalesce(iif(body = '', NULL, body ->> 'model_resolved'), ''), reason, r.probability, created_ms, created_ms,
    iif(state = 'open', 'open', 'closed')
FROM review_items r JOIN evaluations e USING (evaluation_id) JOIN calls USING (tenant_id, request_id);
DROP TABLE review_items;
ALTER TABLE review_items_new RENAME TO review_items;
CREATE INDEX review_items_next ON review_items (state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_tenant ON review_items (tenant_id, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_feature ON review_items (feature, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_both ON review_items (tenant_id, feature, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_held ON review_items (held_by) WHERE held_by IS NOT NULL;
CREATE INDEX review_items_by_version ON review_items (feature, prompt_version, model, created_ms);
CREATE INDEX review_items_by_reason ON review_items (reason, created_ms);

-- Who does not want to see an item.
CREATE TABLE review_skips (
    review_id      TEXT    NOT NULL REFERENCES review_items (review_id),
    reviewer       TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL,
    PRIMARY KEY (review_id, reviewer)
) STRICT, WITHOUT ROWID;

-- Everything that people said, in the order in which they said it; nothing is changed here, what is taken back is an entry.
CREATE TABLE labels (
    entry_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    saying_id      TEXT    NOT NULL UNIQUE,        -- the same again changes nothing
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    reviewer       TEXT    NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('label', 'adjudication', 'undo')),
    said           TEXT    NOT NULL CHECK (said IN ('pass', 'fail', 'unsure')), -- of an undo: what is taken back
    note           TEXT    NOT NULL,               -- redacted
    expected       TEXT,                           -- what the answer should have been, redacted
    at_ms          INTEGER NOT NULL
) STRICT;
CREATE INDEX labels_by_evaluation ON labels (evaluation_id, entry_id);

-- What stands of it: at most one label a person.
CREATE TABLE standing_labels (
    evaluation_id  TEXT    NOT NULL REFERENCES evaluations (evaluation_id),
    reviewer       TEXT    NOT NULL,
    entry_id       INTEGER NOT NULL,               -- of labels
    PRIMARY KEY (evaluation_id, reviewer)
) STRICT, WITHOUT ROWID;
CREATE INDEX standing_labels_last ON standing_labels (reviewer, entry_id);

-- What counts: at most one label an evaluation.
CREATE TABLE final_labels (
    evaluation_id  TEXT    PRIMARY KEY REFERENCES evaluations (evaluation_id),
    entry_id       INTEGER NOT NULL,               -- of labels
    decided_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX final_labels_by_time ON final_labels (decided_ms, evaluation_id);

-- What a person said, in place of the scores of the evaluation.
ALTER TABLE outbox ADD COLUMN label TEXT;          -- JSON
