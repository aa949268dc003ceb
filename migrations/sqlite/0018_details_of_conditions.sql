-- What is known of a condition, as its first notice had it: who is told of it again is told the same.
ALTER TABLE conditions ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
