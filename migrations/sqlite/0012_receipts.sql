-- What a sink needs to delete a delivery again; opaque, no text of the call.
ALTER TABLE outbox ADD COLUMN receipt TEXT;
