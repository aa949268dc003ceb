-- What an evaluation cost may be unknown: NULL, not 0.
ALTER TABLE evaluations ADD COLUMN cost REAL;
UPDATE evaluations SET cost = cost_usd;
ALTER TABLE evaluations DROP COLUMN cost_usd;
ALTER TABLE evaluations RENAME COLUMN cost TO cost_usd;
