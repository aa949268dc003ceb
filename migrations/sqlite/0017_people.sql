-- Who may come in. Times are those of the process that asks, in Unix milliseconds.
CREATE TABLE people (
    name           TEXT    PRIMARY KEY,
    role           TEXT    NOT NULL,
    tenants        TEXT,                           -- JSON list; NULL: all
    features       TEXT,                           -- JSON list; NULL: all
    password_hash  TEXT    NOT NULL,               -- Argon2id, with its parameters and salt
    disabled_ms    INTEGER,
    created_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is signed in: the browser has the token, here is its digest.
CREATE TABLE sessions (
    token_digest   TEXT    PRIMARY KEY,            -- SHA-256
    name           TEXT    NOT NULL REFERENCES people (name),
    begun_ms       INTEGER NOT NULL,
    seen_ms        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_person ON sessions (name, seen_ms);

-- Keys of programs.
CREATE TABLE api_keys (
    prefix         TEXT    PRIMARY KEY,            -- the part of the secret that is shown
    secret_digest  TEXT    NOT NULL UNIQUE,        -- SHA-256 of the whole
    name           TEXT    NOT NULL,
    role           TEXT    NOT NULL,
    tenants        TEXT,                           -- as of people
    made_ms        INTEGER NOT NULL,
    used_day       INTEGER,                        -- since 1970, UTC
    revoked_ms     INTEGER
) STRICT, WITHOUT ROWID;

-- Tries to sign in, by account and by address, until they are forgiven or their window is over.
CREATE TABLE sign_in_tries (
    subject        TEXT    PRIMARY KEY,            -- SHA-256 of what is counted
    tries          INTEGER NOT NULL,
    since_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_tries_by_time ON sign_in_tries (since_ms);

-- Who did what, for ever; nothing is changed here.
CREATE TABLE audit_log (
    entry_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    who            TEXT    NOT NULL,
    what           TEXT    NOT NULL,               -- signed_in, sign_in_refused, key_added, …
    about          TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL
) STRICT;
