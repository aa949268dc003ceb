-- What people should hear of, a row for each route: written with the verdict that it comes of, or by whoever noticed.
CREATE TABLE notices (
    seq            INTEGER PRIMARY KEY,            -- the order in which they are told
    notice_id      TEXT    NOT NULL,               -- UUIDv5 of what it is about
    route          TEXT    NOT NULL,
    notice         TEXT    NOT NULL,               -- JSON: ids, codes and numbers, no word of a call
    critical       INTEGER NOT NULL CHECK (critical IN (0, 1)), -- passes quiet hours
    condition      TEXT,                           -- notices about one keep their order
    evaluation_id  TEXT,                           -- erased with it, and told after it is pruned
    message_id     TEXT,                           -- the message that it belongs to, for ever, once one was begun
    created_ms     INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    attempts       INTEGER NOT NULL DEFAULT 0,
    told_ms        INTEGER,
    dead_reason    TEXT,
    UNIQUE (notice_id, route)
) STRICT;
CREATE INDEX notices_open ON notices (route, seq) WHERE told_ms IS NULL AND dead_reason IS NULL;
CREATE INDEX notices_by_evaluation ON notices (evaluation_id) WHERE evaluation_id IS NOT NULL;
CREATE INDEX notices_by_time ON notices (created_ms);

-- Routes as they are: off, at rest, or neither.
CREATE TABLE notice_routes (
    route          TEXT    PRIMARY KEY,
    next_ms        INTEGER NOT NULL DEFAULT 0,     -- no new message before
    rest_ms        INTEGER NOT NULL DEFAULT 0,     -- no message at all before
    off            TEXT,                           -- why it is switched off
    last_error     TEXT
) STRICT;

-- What lasts: it has begun and is not over.
CREATE TABLE conditions (
    condition      TEXT    PRIMARY KEY,
    began_ms       INTEGER NOT NULL
) STRICT;
