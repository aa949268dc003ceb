-- A tenant's calls share a lane, and lanes are served in turn, so that one tenant's flood does not starve the others.
ALTER TABLE queue ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
DROP INDEX queue_due;
CREATE INDEX queue_due ON queue (lane, available_ms, id);
