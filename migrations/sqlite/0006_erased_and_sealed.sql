-- Whose call it is, by the producer's name for the customer. An erased call has neither body nor digest; its key stays, so that
-- no redelivery writes it again.
ALTER TABLE calls ADD COLUMN user_key TEXT;
CREATE INDEX calls_by_user ON calls (user_key) WHERE user_key IS NOT NULL;
ALTER TABLE dead_letters ADD COLUMN user_key TEXT;
CREATE INDEX dead_letters_by_user ON dead_letters (user_key) WHERE user_key IS NOT NULL;
CREATE INDEX calls_erased ON calls (received_ms) WHERE body_digest = '';

-- Messages as they were delivered, encrypted, until they expire: the debug share.
CREATE TABLE sealed (
    tenant_id      TEXT    NOT NULL,
    request_id     TEXT    NOT NULL,
    message        BLOB    NOT NULL,
    expires_ms     INTEGER NOT NULL,
    PRIMARY KEY (request_id, tenant_id)
) STRICT;
CREATE INDEX sealed_by_time ON sealed (expires_ms);
