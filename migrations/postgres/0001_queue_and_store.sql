-- Queue and store on a server that many workers share. Times are Unix milliseconds by the server's clock. Keys that are
-- text compare byte by byte (COLLATE "C"): faster, and an update of the server's locales cannot break their indexes.

-- Now, in Unix milliseconds. The clock, not the start of the transaction: a lease that began before a wait for a lock
-- would be shorter than it says.
CREATE FUNCTION aftercheck_now_ms() RETURNS bigint
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- The queue. A row is leased, not locked: lease_token fences a worker that was paused past its lease.
CREATE TABLE queue (
    id             bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane           smallint NOT NULL,              -- a tenant's calls share one; lanes are served in turn
    payload        bytea    NOT NULL,
    enqueued_ms    bigint   NOT NULL DEFAULT aftercheck_now_ms(),
    available_ms   bigint   NOT NULL DEFAULT aftercheck_now_ms(), -- not before this time: retries and leases share it
    lease_token    uuid,                           -- who works on it; NULL when nobody does
    deliveries     integer  NOT NULL DEFAULT 0     -- how often it was handed out
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_limit = 2000);
CREATE INDEX queue_due ON queue (lane, available_ms, id);

-- Attempts on a payload, counted before the work so that a payload that kills the process is counted too.
-- The row goes with the evaluation or the dead letter that ends the payload.
CREATE TABLE attempts (
    payload_digest text    COLLATE "C" PRIMARY KEY,
    attempts       integer NOT NULL,
    counted_by     uuid    NOT NULL,               -- the call that counted last: its repeat counts nothing
    first_ms       bigint  NOT NULL,
    last_ms        bigint  NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_limit = 2000);

-- Calls as they were received and redacted (first body wins; a later different body is a ledger entry). The body is text,
-- not jsonb: nothing asks for a part of it.
CREATE TABLE calls (
    tenant_id      text    COLLATE "C" NOT NULL,
    request_id     text    COLLATE "C" NOT NULL,
    body_digest    text    NOT NULL,               -- of all of it, whatever is kept; empty: erased
    body           text    NOT NULL,               -- empty where the call was erased; its key stays, so that no redelivery writes it again
    user_key       text    COLLATE "C",            -- whose call it is, by the producer's name for the customer
    feature        text    NOT NULL,
    occurred_ms    bigint  NOT NULL,
    received_ms    bigint  NOT NULL,
    source         text    NOT NULL,
    PRIMARY KEY (request_id, tenant_id)            -- in this order: `why` asks for a request id in every tenant
);
CREATE INDEX calls_by_user ON calls (user_key) WHERE user_key IS NOT NULL;
CREATE INDEX calls_erased ON calls (received_ms) WHERE body_digest = '';

-- Messages as they were delivered, encrypted, until they expire: the debug share.
CREATE TABLE sealed (
    tenant_id      text    COLLATE "C" NOT NULL,
    request_id     text    COLLATE "C" NOT NULL,
    message        bytea   NOT NULL,
    expires_ms     bigint  NOT NULL,
    PRIMARY KEY (request_id, tenant_id)
);
CREATE INDEX sealed_by_time ON sealed (expires_ms);

-- A body has about the size at which values are compressed; pglz, the default, takes as long over it as all indexes
-- together. A server that was built without LZ4 keeps the default.
DO $$ BEGIN
    ALTER TABLE calls ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END $$;

-- One row per call and evaluator version, until it is pruned. The unique key is what makes the effect happen once.
CREATE TABLE evaluations (
    evaluation_id      uuid    PRIMARY KEY,        -- UUIDv8: begins with the time of the call, as all that hangs on it
    tenant_id          text    COLLATE "C" NOT NULL,
    request_id         text    COLLATE "C" NOT NULL,
    evaluator_version  text    COLLATE "C" NOT NULL,
    trace_id           text    NOT NULL,
    span_id            text,
    feature            text    NOT NULL,
    occurred_at        text    NOT NULL,           -- RFC 3339 as the producer's clock had it
    evaluated_at       text    NOT NULL,
    evaluated_ms       bigint  NOT NULL,
    verdict            text    NOT NULL CHECK (verdict IN ('pass', 'fail', 'review', 'not_applicable')),
    decided_by         text    NOT NULL,
    reasons            jsonb   NOT NULL,           -- array of codes
    rules              jsonb   NOT NULL,           -- array of outcomes: a row each was most of what a call cost to write
    faithfulness       double precision CHECK (faithfulness BETWEEN 0 AND 1),
    truncated          boolean NOT NULL,
    tokens_cut         bigint  NOT NULL,
    judge              jsonb,
    stages             jsonb   NOT NULL,           -- array
    cost_usd           double precision,           -- NULL: nobody knows
    judge_avoided_usd  double precision,
    probability        double precision NOT NULL CHECK (probability > 0 AND probability <= 1),
    UNIQUE (tenant_id, request_id, evaluator_version),
    FOREIGN KEY (tenant_id, request_id) REFERENCES calls (tenant_id, request_id)
);
CREATE INDEX evaluations_by_time ON evaluations (evaluated_ms);

CREATE TABLE claims (
    evaluation_id  uuid     NOT NULL REFERENCES evaluations (evaluation_id),
    position       integer  NOT NULL,
    claim_start    bigint   NOT NULL,
    claim_end      bigint   NOT NULL,
    entailment     double precision NOT NULL CHECK (entailment BETWEEN 0 AND 1),
    neutral        double precision NOT NULL CHECK (neutral BETWEEN 0 AND 1),
    contradiction  double precision NOT NULL CHECK (contradiction BETWEEN 0 AND 1),
    chunk_id       text     NOT NULL,
    chunk_start    bigint   NOT NULL,
    chunk_end      bigint   NOT NULL,
    label          text     NOT NULL,
    doubt          text,                           -- why the model could not judge it; NULL where it could
    PRIMARY KEY (evaluation_id, position)
);

-- What is written to trace backends: one score per name.
CREATE TABLE scores (
    score_id       uuid     NOT NULL,              -- UUIDv8 of evaluation and name
    evaluation_id  uuid     NOT NULL REFERENCES evaluations (evaluation_id),
    name           text     NOT NULL,
    value          double precision,
    label          text,
    PRIMARY KEY (evaluation_id, name)
);

-- The queue of what a person should look at. The order is fixed when an item is written: when it came, less the head start that
-- it has for what its label would tell.
CREATE TABLE review_items (
    review_id      uuid     PRIMARY KEY,           -- UUIDv8 of the evaluation
    evaluation_id  uuid     NOT NULL UNIQUE REFERENCES evaluations (evaluation_id),
    tenant_id      text     COLLATE "C" NOT NULL,
    feature        text     COLLATE "C" NOT NULL,
    prompt_version text     COLLATE "C" NOT NULL,
    model          text     COLLATE "C" NOT NULL,
    reason         text     NOT NULL,
    probability    double precision NOT NULL CHECK (probability > 0 AND probability <= 1),
    created_ms     bigint   NOT NULL,
    rank_ms        bigint   NOT NULL,              -- the lowest is next
    wanted         integer  NOT NULL DEFAULT 1,    -- labels, each by another person
    state          text     NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'disputed', 'closed')),
    held_by        text     COLLATE "C",           -- who looks at it
    hold_token     uuid,                           -- fences who held it before
    held_until_ms  bigint   NOT NULL DEFAULT 0
) WITH (fillfactor = 85);
CREATE INDEX review_items_next ON review_items (state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_tenant ON review_items (tenant_id, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_feature ON review_items (feature, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_by_both ON review_items (tenant_id, feature, state, rank_ms, review_id) WHERE state <> 'closed';
CREATE INDEX review_items_closed ON review_items (rank_ms, review_id) WHERE state = 'closed';
CREATE INDEX review_items_held ON review_items (held_by) WHERE held_by IS NOT NULL;
CREATE INDEX review_items_by_version ON review_items (feature, prompt_version, model, created_ms);
CREATE INDEX review_items_by_reason ON review_items (reason, created_ms);

-- Who does not want to see an item.
CREATE TABLE review_skips (
    review_id      uuid     NOT NULL REFERENCES review_items (review_id),
    reviewer       text     COLLATE "C" NOT NULL,
    at_ms          bigint   NOT NULL,
    PRIMARY KEY (review_id, reviewer)
);

-- Everything that people said, in the order in which they said it; nothing is changed here, what is taken back is an entry.
CREATE TABLE labels (
    entry_id       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saying_id      uuid     NOT NULL UNIQUE,       -- the same again changes nothing
    evaluation_id  uuid     NOT NULL REFERENCES evaluations (evaluation_id),
    reviewer       text     COLLATE "C" NOT NULL,
    kind           text     NOT NULL CHECK (kind IN ('label', 'adjudication', 'undo')),
    said           text     NOT NULL CHECK (said IN ('pass', 'fail', 'unsure')), -- of an undo: what is taken back
    note           text     NOT NULL,              -- redacted
    expected       text,                           -- what the answer should have been, redacted
    at_ms          bigint   NOT NULL
);
CREATE INDEX labels_by_evaluation ON labels (evaluation_id, entry_id);

-- What stands of it: at most one label a person.
CREATE TABLE standing_labels (
    evaluation_id  uuid     NOT NULL REFERENCES evaluations (evaluation_id),
    reviewer       text     COLLATE "C" NOT NULL,
    entry_id       bigint   NOT NULL,              -- of labels
    PRIMARY KEY (evaluation_id, reviewer)
);
CREATE INDEX standing_labels_last ON standing_labels (reviewer, entry_id);

-- What counts: at most one label an evaluation.
CREATE TABLE final_labels (
    evaluation_id  uuid     PRIMARY KEY REFERENCES evaluations (evaluation_id),
    entry_id       bigint   NOT NULL,              -- of labels
    decided_ms     bigint   NOT NULL
);
CREATE INDEX final_labels_by_time ON final_labels (decided_ms, evaluation_id);

-- The golden set: a call and what people said of it, with its own copy of the redacted texts.
CREATE TABLE golden (
    golden_id      uuid     PRIMARY KEY,           -- UUIDv5 of data set and call
    evaluation_id  uuid     NOT NULL REFERENCES evaluations (evaluation_id),
    dataset        text     COLLATE "C" NOT NULL,
    tenant_id      text     COLLATE "C" NOT NULL,
    feature        text     NOT NULL,
    content        text     NOT NULL,              -- JSON
    digest         text     NOT NULL,              -- SHA-256 of the content
    promoted_ms    bigint   NOT NULL,
    changed_ms     bigint   NOT NULL
);
CREATE INDEX golden_by_dataset ON golden (dataset, golden_id);
CREATE INDEX golden_by_evaluation ON golden (evaluation_id);

-- Who changed what when; nothing is changed here, and no text of a call is in it.
CREATE TABLE golden_history (
    entry_id       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    golden_id      uuid     NOT NULL,
    dataset        text     NOT NULL,
    tenant_id      text     NOT NULL,
    request_id     text     NOT NULL,
    change         text     NOT NULL CHECK (change IN ('promoted', 'edited', 'removed', 'erased')),
    done_by        text     NOT NULL,
    digest         text     NOT NULL,
    at_ms          bigint   NOT NULL
);
CREATE INDEX golden_history_by_row ON golden_history (golden_id, entry_id);

-- Transactional outbox: written with the verdict, delivered later, again and again until it is done.
CREATE TABLE outbox (
    delivery_id    uuid     PRIMARY KEY,           -- UUIDv8 of sink and evaluation; UUIDv5 of what is retracted
    sink           text     COLLATE "C" NOT NULL,
    evaluation_id  uuid     REFERENCES evaluations (evaluation_id),
    retracts       jsonb,                          -- in place of an evaluation: what the sink is to delete
    label          text,                           -- in place of the evaluation's scores: what a person said of it, as JSON
    golden_id      uuid,                           -- in place of the evaluation's scores: a row of the golden set, as it is when it is sent
    created_ms     bigint   NOT NULL,
    due_ms         bigint   NOT NULL,
    attempts       integer  NOT NULL DEFAULT 0,
    delivered_ms   bigint,
    dead_reason    text,
    dead_ms        bigint,                         -- when it was given up
    last_error     text,
    receipt        text,                           -- what the sink needs to delete it again; opaque, no text of the call
    requeued_ms    bigint,                         -- its age counts from then
    dropped_ms     bigint,                         -- dead, and somebody has seen it
    CHECK ((evaluation_id IS NULL) <> (retracts IS NULL))
) WITH (fillfactor = 85);
CREATE INDEX outbox_due ON outbox (sink, due_ms) WHERE delivered_ms IS NULL AND dead_reason IS NULL;
CREATE INDEX outbox_by_evaluation ON outbox (evaluation_id);
CREATE INDEX outbox_by_time ON outbox (created_ms);
CREATE INDEX outbox_dead ON outbox (sink, created_ms) WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL;
CREATE INDEX outbox_given_up ON outbox (sink, dead_ms) WHERE dead_reason IS NOT NULL AND dropped_ms IS NULL;

-- Sinks that somebody has paused: nothing of theirs is due.
CREATE TABLE paused_sinks (
    sink           text    COLLATE "C" PRIMARY KEY,
    since_ms       bigint  NOT NULL
);

-- What is known of sinks beside their deliveries, to tell one that is down from one that takes others, and what waited for a
-- person from what waits for the sink. A row for each sink, not an index of when each delivery was made: of millions only the
-- newest counts, and each would be written into it.
CREATE TABLE sink_marks (
    sink           text    COLLATE "C" PRIMARY KEY,
    taken_ms       bigint,                         -- when it last did what it was sent, up to a second too early: written once a second
    resumed_ms     bigint                          -- when somebody last ended a pause
) WITH (fillfactor = 50);

CREATE TABLE dead_letters (
    dead_letter_id uuid     PRIMARY KEY,           -- UUIDv5 of the payload's digest
    payload        bytea    NOT NULL,              -- redacted
    payload_digest text     NOT NULL,              -- of the bytes as they were delivered
    user_key       text     COLLATE "C",           -- as of calls
    class          text     NOT NULL,
    pointer        text     NOT NULL,
    detail         text     NOT NULL,
    remedy         text     NOT NULL,
    tenant_id      text     COLLATE "C",
    request_id     text     COLLATE "C",
    attempts       integer  NOT NULL,
    source         text     NOT NULL,
    created_ms     bigint   NOT NULL
);
CREATE INDEX dead_letters_by_request ON dead_letters (request_id);
CREATE INDEX dead_letters_by_user ON dead_letters (user_key) WHERE user_key IS NOT NULL;
CREATE INDEX dead_letters_by_time ON dead_letters (created_ms);

-- Append-only history of what happened to a call and why. An index entry holds 2,704 bytes at most: ids have 800, and
-- the store cuts details at 1,000.
CREATE TABLE ledger (
    entry_id       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      text     COLLATE "C",
    request_id     text     COLLATE "C",
    event          text     NOT NULL,              -- evaluated, retried, conflict, dead, requeued, dropped, revealed, erased, names_left, deferred, labelled, unlabelled, feedback
    detail         text     NOT NULL,
    at_ms          bigint   NOT NULL,
    UNIQUE (request_id, tenant_id, event, detail)
);

-- From when everything that was evaluated is there: before it some was pruned, and what is left was kept for a reason. One row.
CREATE TABLE prune_horizon (
    evaluated_ms   bigint  NOT NULL
);
INSERT INTO prune_horizon (evaluated_ms) VALUES (0);

-- The scan of what is kept, once for all workers: when it is due, and what the last one found. One row.
CREATE TABLE scan (
    due_ms         bigint  NOT NULL,
    found          bigint  NOT NULL
);
INSERT INTO scan (due_ms, found) VALUES (0, 0);

-- Answers of judges, each about one claim and its chunk, so that a redelivery never pays twice.
CREATE TABLE judge_answers (
    judging_key    text    COLLATE "C" PRIMARY KEY, -- SHA-256 of judge, prompt, tenant, claim and chunk
    tenant_id      text    COLLATE "C" NOT NULL,   -- of the call that it was asked about first
    request_id     text    COLLATE "C" NOT NULL,
    answer         text    NOT NULL,               -- JSON: label and support; no word of the call
    expires_ms     bigint  NOT NULL
);
CREATE INDEX judge_answers_by_call ON judge_answers (request_id, tenant_id);
CREATE INDEX judge_answers_by_time ON judge_answers (expires_ms);

-- What was taken out of the budgets of judges, by day and tenant; the empty tenant stands for all.
CREATE TABLE judge_spending (
    day            bigint  NOT NULL,               -- since 1970, UTC
    tenant_id      text    COLLATE "C" NOT NULL,
    calls          bigint  NOT NULL,
    usd            double precision NOT NULL,
    PRIMARY KEY (day, tenant_id)
);

-- Calls whose judge could not be asked yet: whole, until they are judged.
CREATE TABLE deferred (
    tenant_id         text   COLLATE "C" NOT NULL,
    request_id        text   COLLATE "C" NOT NULL,
    evaluator_version text   COLLATE "C" NOT NULL, -- that deferred it
    body_digest       text   NOT NULL,             -- as of calls
    call              text   NOT NULL,             -- JSON, redacted
    payload_digest    text   NOT NULL,
    user_key          text   COLLATE "C",
    since_ms          bigint NOT NULL,
    due_ms            bigint NOT NULL,
    tries             bigint NOT NULL DEFAULT 0,   -- since it last came to an orderly end
    PRIMARY KEY (request_id, tenant_id, evaluator_version),
    FOREIGN KEY (tenant_id, request_id) REFERENCES calls (tenant_id, request_id)
);
CREATE INDEX deferred_due ON deferred (due_ms);
CREATE INDEX deferred_by_tenant ON deferred (tenant_id, request_id);

-- What people should hear of, a row for each route: written with the verdict that it comes of, or by whoever noticed.
CREATE TABLE notices (
    seq            bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order in which they are told
    notice_id      uuid     NOT NULL,              -- UUIDv5 of what it is about
    route          text     COLLATE "C" NOT NULL,
    notice         text     NOT NULL,              -- JSON: ids, codes and numbers, no word of a call
    critical       boolean  NOT NULL,              -- passes quiet hours
    condition      text     COLLATE "C",           -- notices about one keep their order
    evaluation_id  uuid,                           -- erased with it, and told after it is pruned
    message_id     uuid,                           -- the message that it belongs to, for ever, once one was begun
    created_ms     bigint   NOT NULL,
    due_ms         bigint   NOT NULL,
    attempts       integer  NOT NULL DEFAULT 0,
    told_ms        bigint,
    dead_reason    text,
    UNIQUE (notice_id, route)
);
CREATE INDEX notices_open ON notices (route, seq) WHERE told_ms IS NULL AND dead_reason IS NULL;
CREATE INDEX notices_by_evaluation ON notices (evaluation_id) WHERE evaluation_id IS NOT NULL;
CREATE INDEX notices_by_time ON notices (created_ms);

-- Routes as they are: off, at rest, or neither.
CREATE TABLE notice_routes (
    route          text     COLLATE "C" PRIMARY KEY,
    next_ms        bigint   NOT NULL DEFAULT 0,    -- no new message before
    rest_ms        bigint   NOT NULL DEFAULT 0,    -- no message at all before
    off            text,                           -- why it is switched off
    last_error     text
);

-- What lasts: it has begun and is not over.
CREATE TABLE conditions (
    condition      text     COLLATE "C" PRIMARY KEY,
    began_ms       bigint   NOT NULL,
    details        text     NOT NULL DEFAULT '{}'  -- JSON, as its first notice had it
);

-- Who may come in. Times are those of the process that asks, in Unix milliseconds.
CREATE TABLE people (
    name           text    COLLATE "C" PRIMARY KEY,
    role           text    NOT NULL,
    tenants        text,                           -- JSON list; NULL: all
    features       text,                           -- JSON list; NULL: all
    password_hash  text    NOT NULL,               -- Argon2id, with its parameters and salt
    disabled_ms    bigint,
    created_ms     bigint  NOT NULL
);

-- Who is signed in: the browser has the token, here is its digest.
CREATE TABLE sessions (
    token_digest   text    COLLATE "C" PRIMARY KEY, -- SHA-256
    name           text    COLLATE "C" NOT NULL REFERENCES people (name),
    begun_ms       bigint  NOT NULL,
    seen_ms        bigint  NOT NULL
);
CREATE INDEX sessions_by_person ON sessions (name, seen_ms);

-- Keys of programs.
CREATE TABLE api_keys (
    prefix         text    COLLATE "C" PRIMARY KEY, -- the part of the secret that is shown
    secret_digest  text    COLLATE "C" NOT NULL UNIQUE, -- SHA-256 of the whole
    name           text    NOT NULL,
    role           text    NOT NULL,
    tenants        text,                           -- as of people
    made_ms        bigint  NOT NULL,
    used_day       bigint,                         -- since 1970, UTC
    revoked_ms     bigint
);

-- Tries to sign in, by account and by address, until they are forgiven or their window is over.
CREATE TABLE sign_in_tries (
    subject        text    COLLATE "C" PRIMARY KEY, -- SHA-256 of what is counted
    tries          bigint  NOT NULL,
    since_ms       bigint  NOT NULL
);
CREATE INDEX sign_in_tries_by_time ON sign_in_tries (since_ms);

-- Who did what, for ever; nothing is changed here.
CREATE TABLE audit_log (
    entry_id       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    who            text    NOT NULL,
    what           text    NOT NULL,               -- signed_in, sign_in_refused, key_added, …
    about          text    NOT NULL,
    at_ms          bigint  NOT NULL
);
