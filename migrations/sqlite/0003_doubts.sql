-- Why the model could not judge a claim; NULL where it could, and for claims from before this migration.
ALTER TABLE claims ADD COLUMN doubt TEXT;
