-- Digest of a dead letter's bytes as they were delivered: the payload is kept redacted, and its attempts are counted under
-- the digest. Empty for letters that were written before: of those the payload itself is kept.
ALTER TABLE dead_letters ADD COLUMN payload_digest TEXT NOT NULL DEFAULT '';
