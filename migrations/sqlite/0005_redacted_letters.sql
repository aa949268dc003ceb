-- Digest of a dead letter's bytes as they were delivered: the payload is kept redacted, and its attempts are counted under
-- the digest. Letters that were written before are under the digest of what they keep, which SQLite cannot compute: a
-- requeue of one does not forget its attempts.
ALTER TABLE dead_letters ADD COLUMN payload_digest TEXT NOT NULL DEFAULT '';
