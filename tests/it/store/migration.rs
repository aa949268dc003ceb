//! A file of an older version keeps what it has.

use aftercheck::domain::{RuleOutcome, RuleResult};
use sqlx::{Connection, SqliteConnection};

/// The migrations before rule outcomes moved into the row of their evaluation, and that one.
const BEFORE: [&str; 6] = [
    include_str!("../../../migrations/sqlite/0001_first_light.sql"),
    include_str!("../../../migrations/sqlite/0002_find_by_request.sql"),
    include_str!("../../../migrations/sqlite/0003_doubts.sql"),
    include_str!("../../../migrations/sqlite/0004_lanes.sql"),
    include_str!("../../../migrations/sqlite/0005_redacted_letters.sql"),
    include_str!("../../../migrations/sqlite/0006_erased_and_sealed.sql"),
];
const THEN: &str = include_str!("../../../migrations/sqlite/0007_rules_with_their_evaluation.sql");

/// What has a retraction wait where deliveries wait.
const RETRACTIONS: &str = include_str!("../../../migrations/sqlite/0008_retractions.sql");

/// A call that two evaluator versions have decided.
const EVALUATED: &str = "
    INSERT INTO calls (tenant_id, request_id, body_digest, body, feature, occurred_ms, received_ms, source)
    VALUES ('t', 'r', 'd', '{}', 'f', 0, 0, 's');
    INSERT INTO evaluations (evaluation_id, tenant_id, request_id, evaluator_version, trace_id, feature, occurred_at,
        evaluated_at, evaluated_ms, verdict, decided_by, reasons, truncated, tokens_cut, stages, cost_usd, probability)
    VALUES ('e1', 't', 'r', 'v1', 't', 'f', '', '', 0, 'pass', 'rules', '[]', 0, 0, '[]', 0, 1),
        ('e2', 't', 'r', 'v2', 't', 'f', '', '', 0, 'pass', 'rules', '[]', 0, 0, '[]', 0, 1);";

#[tokio::test]
async fn deliveries_that_wait_go_on_waiting() {
    let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for statements in BEFORE.into_iter().chain([THEN]) {
        sqlx::raw_sql(statements).execute(&mut file).await.unwrap();
    }
    let rows = "
        INSERT INTO outbox (delivery_id, sink, evaluation_id, created_ms, due_ms, attempts, last_error)
        VALUES ('d1', 'one', 'e1', 1, 2, 3, 'down');";
    sqlx::raw_sql(EVALUATED).execute(&mut file).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut file).await.unwrap();
    sqlx::raw_sql(RETRACTIONS).execute(&mut file).await.unwrap();
    let texts: (String, String, String, Option<String>, Option<String>) =
        sqlx::query_as("SELECT delivery_id, sink, evaluation_id, last_error, retracts FROM outbox")
            .fetch_one(&mut file)
            .await
            .unwrap();
    let [d1, one, e1, down] = ["d1", "one", "e1", "down"].map(str::to_owned);
    assert_eq!(texts, (d1, one, e1, Some(down), None));
    let numbers: (i64, i64, i64, Option<i64>) =
        sqlx::query_as("SELECT created_ms, due_ms, attempts, delivered_ms FROM outbox")
            .fetch_one(&mut file)
            .await
            .unwrap();
    assert_eq!(numbers, (1, 2, 3, None));
}

#[tokio::test]
async fn rule_outcomes_move_into_the_row_of_their_evaluation() {
    let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for statements in BEFORE {
        sqlx::raw_sql(statements).execute(&mut file).await.unwrap();
    }
    let rows = "
        INSERT INTO rule_outcomes (evaluation_id, position, rule, outcome, detail, spans)
        VALUES ('e1', 1, 'b.second', 'fail', 'so \"said\"', '[{\"start\":1,\"end\":2}]'),
            ('e1', 0, 'a.first', 'pass', '', '[]');";
    sqlx::raw_sql(EVALUATED).execute(&mut file).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut file).await.unwrap();
    sqlx::raw_sql(THEN).execute(&mut file).await.unwrap();
    let rules: Vec<String> = sqlx::query_scalar("SELECT rules FROM evaluations ORDER BY evaluation_id")
        .fetch_all(&mut file)
        .await
        .unwrap();
    let first: Vec<RuleResult> = serde_json::from_str(&rules[0]).unwrap();
    let told = |rule: &RuleResult| (rule.rule.clone(), rule.outcome, rule.detail.clone(), rule.spans.len());
    assert_eq!(
        first.iter().map(told).collect::<Vec<_>>(),
        [
            ("a.first".into(), RuleOutcome::Pass, String::new(), 0),
            ("b.second".into(), RuleOutcome::Fail, "so \"said\"".into(), 1)
        ]
    );
    assert_eq!(rules[1], "[]");
}

/// The migrations between, up to the one that makes the queue of reviews, and that one.
const UP_TO_REVIEW: [&str; 6] = [
    include_str!("../../../migrations/sqlite/0009_judging.sql"),
    include_str!("../../../migrations/sqlite/0010_scan.sql"),
    include_str!("../../../migrations/sqlite/0011_cost_unknown.sql"),
    include_str!("../../../migrations/sqlite/0012_receipts.sql"),
    include_str!("../../../migrations/sqlite/0013_sinks.sql"),
    include_str!("../../../migrations/sqlite/0014_notices.sql"),
];
const REVIEW: &str = include_str!("../../../migrations/sqlite/0015_review.sql");

#[tokio::test]
async fn reviews_that_wait_go_on_waiting_where_they_were() {
    let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for statements in BEFORE.into_iter().chain([THEN, RETRACTIONS]) {
        sqlx::raw_sql(statements).execute(&mut file).await.unwrap();
    }
    let rows = "
        INSERT INTO review_items (review_id, evaluation_id, reason, probability, created_ms, state)
        VALUES ('r1', 'e1', 'unsure_band', 1, 7, 'open'), ('r2', 'e2', 'audit_slice', 0.25, 8, 'closed');
        UPDATE calls SET body = '{\"prompt_version\":\"p7\",\"model_resolved\":\"m\"}';";
    sqlx::raw_sql(EVALUATED).execute(&mut file).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut file).await.unwrap();
    for statements in UP_TO_REVIEW.into_iter().chain([REVIEW]) {
        sqlx::raw_sql(statements).execute(&mut file).await.unwrap();
    }
    type Item = (String, String, String, String, String, i64, i64, f64);
    let items: Vec<Item> = sqlx::query_as(
        "SELECT review_id, tenant_id, prompt_version, reason, state, rank_ms, wanted, probability FROM review_items
         ORDER BY review_id",
    )
    .fetch_all(&mut file)
    .await
    .unwrap();
    let item = |id: &str, reason: &str, state: &str, rank_ms, probability| {
        (id.into(), "t".into(), "p7".into(), reason.into(), state.into(), rank_ms, 1, probability)
    };
    let kept: [Item; 2] =
        [item("r1", "unsure_band", "open", 7, 1.0), item("r2", "audit_slice", "closed", 8, 0.25)];
    assert_eq!(items, kept);
}

/// The migrations between, up to the one that says when deliveries were given up, and that one.
const UP_TO_WATCHED: [&str; 3] = [
    include_str!("../../../migrations/sqlite/0016_golden.sql"),
    include_str!("../../../migrations/sqlite/0017_people.sql"),
    include_str!("../../../migrations/sqlite/0018_details_of_conditions.sql"),
];
const WATCHED: &str = include_str!("../../../migrations/sqlite/0019_sinks_watched.sql");

#[tokio::test]
async fn what_was_given_up_and_taken_before_is_known() {
    let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let before = BEFORE.into_iter().chain([THEN, RETRACTIONS]).chain(UP_TO_REVIEW).chain([REVIEW]);
    for statements in before.chain(UP_TO_WATCHED) {
        sqlx::raw_sql(statements).execute(&mut file).await.unwrap();
    }
    let rows = "
        INSERT INTO outbox (delivery_id, sink, evaluation_id, created_ms, due_ms, delivered_ms, dead_reason, dropped_ms)
        VALUES ('d1', 'one', 'e1', 1, 1, NULL, 'no', NULL), ('d2', 'one', 'e2', 2, 2, 7, 'no', 8),
            ('d3', 'one', 'e2', 3, 3, 5, NULL, NULL), ('d4', 'two', 'e1', 4, 4, NULL, NULL, NULL);";
    sqlx::raw_sql(EVALUATED).execute(&mut file).await.unwrap();
    sqlx::raw_sql(rows).execute(&mut file).await.unwrap();
    sqlx::raw_sql(WATCHED).execute(&mut file).await.unwrap();
    type Row = (String, Option<i64>, Option<String>, Option<i64>, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT delivery_id, delivered_ms, dead_reason, dead_ms, dropped_ms FROM outbox ORDER BY delivery_id",
    )
    .fetch_all(&mut file)
    .await
    .unwrap();
    let row = |id: &str, delivered_ms, dead: Option<&str>, dead_ms| {
        (id.to_owned(), delivered_ms, dead.map(str::to_owned), dead_ms, None)
    };
    let kept: [Row; 4] = [
        row("d1", None, Some("no"), Some(1)),
        row("d2", Some(7), None, None),
        row("d3", Some(5), None, None),
        row("d4", None, None, None),
    ];
    assert_eq!(rows, kept);
    let marks: Vec<(String, Option<i64>, Option<i64>)> =
        sqlx::query_as("SELECT sink, taken_ms, resumed_ms FROM sink_marks")
            .fetch_all(&mut file)
            .await
            .unwrap();
    assert_eq!(marks, [("one".to_owned(), Some(7), None)]);
}
