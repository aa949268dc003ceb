-- The scan of what is kept, once for all workers: when it is due, and what the last one found. One row.
CREATE TABLE scan (
    due_ms         INTEGER NOT NULL,
    found          INTEGER NOT NULL
) STRICT;
INSERT INTO scan (due_ms, found) VALUES (0, 0);
