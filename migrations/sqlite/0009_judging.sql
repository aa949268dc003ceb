-- Answers of judges, each about one claim and its chunk, so that a redelivery never pays twice.
CREATE TABLE judge_answers (
    judging_key    TEXT    PRIMARY KEY,            -- SHA-256 of judge, prompt, tenant, claim and chunk
    tenant_id      TEXT    NOT NULL,               -- of the call that it was asked about first
    request_id     TEXT    NOT NULL,
    answer         TEXT    NOT NULL,               -- JSON: label and support; no word of the call
    expires_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX judge_answers_by_call ON judge_answers (request_id, tenant_id);
CREATE INDEX judge_answers_by_time ON judge_answers (expires_ms);

-- What was taken out of the budgets of judges, by day and tenant; the empty tenant stands for all.
CREATE TABLE judge_spending (
    day            INTEGER NOT NULL,               -- since 1970, UTC
    tenant_id      TEXT    NOT NULL,
    calls          INTEGER NOT NULL,
    usd            REAL    NOT NULL,
    PRIMARY KEY (day, tenant_id)
) STRICT, WITHOUT ROWID;

-- Calls whose judge could not be asked yet: whole, until they are judged.
CREATE TABLE deferred (
    tenant_id         TEXT    NOT NULL,
    request_id        TEXT    NOT NULL,
    evaluator_version TEXT    NOT NULL,            -- that deferred it
    body_digest       TEXT    NOT NULL,            -- as of calls
    call              TEXT    NOT NULL,            -- JSON, redacted
    payload_digest    TEXT    NOT NULL,
    user_key          TEXT,
    since_ms          INTEGER NOT NULL,
    due_ms            INTEGER NOT NULL,
    tries             INTEGER NOT NULL DEFAULT 0,  -- since it last came to an orderly end
    PRIMARY KEY (request_id, tenant_id, evaluator_version),
    FOREIGN KEY (tenant_id, request_id) REFERENCES calls (tenant_id, request_id)
) STRICT;
CREATE INDEX deferred_due ON deferred (due_ms);
CREATE INDEX deferred_by_tenant ON deferred (tenant_id, request_id);
