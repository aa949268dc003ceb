-- Rule outcomes as an array in the row of their evaluation: a row each was most of what a call cost to write.
ALTER TABLE evaluations ADD COLUMN rules TEXT NOT NULL DEFAULT '[]';
UPDATE evaluations SET rules = coalesce((
    SELECT json_group_array(
        json_object('rule', rule, 'outcome', outcome, 'detail', detail, 'spans', json(spans)) ORDER BY position)
    FROM rule_outcomes o WHERE o.evaluation_id = evaluations.evaluation_id), '[]');
DROP TABLE rule_outcomes;
