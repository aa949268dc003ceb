-- Everything that the verdicts of a group consist of, in one statement. $1 is a JSON array of them, in the order of
-- their keys, so that two workers that commit overlapping groups wait for each other and do not deadlock.
-- A verdict whose key is there writes nothing at all. Gives back the ids of those that were written.
WITH given AS MATERIALIZED (
    SELECT *
    FROM ROWS FROM (json_to_recordset($1::json) AS (
        evaluation_id uuid, tenant_id text, request_id text, evaluator_version text, trace_id text, span_id text,
        feature text, occurred_at text, evaluated_at text, evaluated_ms bigint, verdict text, decided_by text,
        reasons jsonb, faithfulness double precision, truncated boolean, tokens_cut numeric, judge jsonb,
        stages jsonb, cost_usd double precision, judge_avoided_usd double precision, probability double precision,
        claims json, rules jsonb, scores json, review json, deliveries json
    )) WITH ORDINALITY AS given (
        evaluation_id, tenant_id, request_id, evaluator_version, trace_id, span_id,
        feature, occurred_at, evaluated_at, evaluated_ms, verdict, decided_by,
        reasons, faithfulness, truncated, tokens_cut, judge,
        stages, cost_usd, judge_avoided_usd, probability,
        claims, rules, scores, review, deliveries, place
    )
),
-- No conflict target: with one, two workers could meet in the index of the other key and fail instead of waiting.
written AS (
    INSERT INTO evaluations (evaluation_id, tenant_id, request_id, evaluator_version, trace_id, span_id,
        feature, occurred_at, evaluated_at, evaluated_ms, verdict, decided_by, reasons, rules, faithfulness,
        truncated, tokens_cut, judge, stages, cost_usd, judge_avoided_usd, probability)
    SELECT evaluation_id, tenant_id, request_id, evaluator_version, trace_id, span_id,
        feature, occurred_at, evaluated_at, evaluated_ms, verdict, decided_by, reasons, rules, faithfulness,
        truncated, least(tokens_cut, 9223372036854775807)::bigint, judge, stages, cost_usd, judge_avoided_usd,
        probability
    FROM given
    ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING evaluation_id
),
fresh AS MATERIALIZED (
    SELECT given.* FROM given JOIN written USING (evaluation_id) ORDER BY place
),
claims_of AS (
    INSERT INTO claims (evaluation_id, position, claim_start, claim_end, entailment, neutral, contradiction,
        chunk_id, chunk_start, chunk_end, label, doubt)
    SELECT evaluation_id, position - 1, claim_start, claim_end, entailment, neutral, contradiction,
        chunk_id, chunk_start, chunk_end, label, doubt
    FROM fresh, ROWS FROM (json_to_recordset(claims) AS (
        "start" bigint, "end" bigint, entailment double precision, neutral double precision,
        contradiction double precision, chunk_id text, chunk_start bigint, chunk_end bigint, label text, doubt text
    )) WITH ORDINALITY AS claim (
        claim_start, claim_end, entailment, neutral, contradiction, chunk_id, chunk_start, chunk_end, label, doubt,
        position
    )
),
scores_of AS (
    INSERT INTO scores (score_id, evaluation_id, name, value, label)
    SELECT score_id, evaluation_id, name, value, label
    FROM fresh, json_to_recordset(scores) AS score (
        score_id uuid, name text, value double precision, label text
    )
),
-- Behind what came before, less the head start. A version is as old as its first item.
reviews_of AS (
    INSERT INTO review_items (review_id, evaluation_id, tenant_id, feature, prompt_version, model, reason, probability, wanted,
        created_ms, rank_ms)
    SELECT review_id, evaluation_id, fresh.tenant_id, fresh.feature, item.prompt_version, item.model, item.reason,
        item.probability, wanted, now.at_ms,
        now.at_ms - (head_start_ms + newness_ms * greatest(
            0, 1 - (now.at_ms - coalesce(first_ms, now.at_ms)) / fresh_ms::double precision))::bigint
    FROM (SELECT aftercheck_now_ms() AS at_ms OFFSET 0) AS now, fresh,
        json_to_record(review) AS item (
            review_id uuid, reason text, probability double precision, wanted integer, prompt_version text, model text,
            head_start_ms double precision, newness_ms double precision, fresh_ms bigint
        ),
        LATERAL (
            SELECT min(created_ms) AS first_ms FROM review_items known
            WHERE known.feature = fresh.feature AND known.prompt_version = item.prompt_version
                AND known.model = item.model
        ) AS since
    WHERE review_id IS NOT NULL
),
deliveries_of AS (
    INSERT INTO outbox (delivery_id, sink, evaluation_id, created_ms, due_ms)
    -- One time for both: a row that is due later than it was made is leased.
    SELECT delivery_id, sink, evaluation_id, at_ms, at_ms
    FROM (SELECT aftercheck_now_ms() AS at_ms OFFSET 0) AS now, fresh,
        json_to_recordset(deliveries) AS delivery (delivery_id uuid, sink text)
),
noted AS (
    INSERT INTO ledger (tenant_id, request_id, event, detail, at_ms)
    SELECT tenant_id, request_id, 'evaluated', evaluator_version, aftercheck_now_ms()
    FROM fresh
    ORDER BY place
    ON CONFLICT DO NOTHING
)
SELECT evaluation_id FROM written
