//! Every metric aftercheck exposes: names, meaning, labels. No other file names one.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use self::Kind::{Counter, Gauge, Histogram};
use crate::domain::{Doubt, Evaluation};

/// What a metric is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts observations in buckets.
    Histogram,
}

/// Every metric with its meaning, and its labels in brackets; `/metrics` says the same.
#[rustfmt::skip]
const METRICS: [(Kind, &str, &str); 44] = [
    (Counter, "aftercheck_calls_received_total", "deliveries taken from the queue (by source)"),
    (Counter, "aftercheck_ingested_total", "messages of POST /v1/calls: queued, refused; requests: error (by outcome)"),
    (Counter, "aftercheck_unknown_fields_total", "unknown top-level fields kept under metadata.extra"),
    (Counter, "aftercheck_evaluations_total", "evaluations committed (by verdict, decided_by)"),
    (Counter, "aftercheck_duplicates_total", "deliveries that were already decided: same, conflict, erased (by kind)"),
    (Counter, "aftercheck_dead_letters_total", "dead letters committed (by class)"),
    (Counter, "aftercheck_rule_outcomes_total", "rule outcomes committed (by rule, outcome)"),
    (Counter, "aftercheck_claims_total", "claims of committed evaluations; doubt none: the model can judge it (by label, doubt)"),
    (Histogram, "aftercheck_stage_seconds", "time of a stage (by stage)"),
    (Counter, "aftercheck_settled_total", "settlements: ok, lost, error (by disposition, outcome)"),
    (Counter, "aftercheck_retries_total", "calls given back to the queue to be tried again (by reason)"),
    (Histogram, "aftercheck_commit_seconds", "one transaction of the store"),
    (Histogram, "aftercheck_commit_calls", "calls that share one transaction"),
    (Gauge, "aftercheck_in_flight", "calls being worked on"),
    (Gauge, "aftercheck_permits_free", "calls that could be taken now"),
    (Gauge, "aftercheck_queue_depth", "messages waiting"),
    (Gauge, "aftercheck_queue_oldest_seconds", "age of the oldest waiting message"),
    (Histogram, "aftercheck_model_run_seconds", "one batch through a model: the classifier or the sentence encoder"),
    (Counter, "aftercheck_model_pairs_total", "premise–hypothesis pairs scored"),
    (Counter, "aftercheck_model_texts_total", "claims and windows turned into vectors"),
    (Counter, "aftercheck_model_tokens_total", "tokens read by either, without padding"),
    (Counter, "aftercheck_model_padded_tokens_total", "tokens computed, with padding"),
    (Counter, "aftercheck_deliveries_total", "outbox rows: delivered, retracted, retry, dead (by sink, outcome)"),
    (Histogram, "aftercheck_delivery_seconds", "one batch of one sink, marking its rows included (by sink)"),
    (Gauge, "aftercheck_sink_resting", "1 while a sink is left alone because it is down or lets nobody in (by sink)"),
    (Gauge, "aftercheck_sink_paused", "1 while somebody has paused a sink (by sink)"),
    (Gauge, "aftercheck_outbox_pending", "outbox rows that are neither delivered nor dead (by sink)"),
    (Gauge, "aftercheck_outbox_oldest_seconds", "age of the oldest of them (by sink)"),
    (Gauge, "aftercheck_outbox_dead", "outbox rows that were given up and not dropped (by sink)"),
    (Counter, "aftercheck_notices_total", "notices: told, retry, dead, off (by route, outcome)"),
    (Counter, "aftercheck_names_requests_total", "requests to the analyzer of names: ok, unavailable, refused, unreadable (by outcome)"),
    (Counter, "aftercheck_names_left_total", "calls that went on with their names: unavailable, refused, unreadable (by reason)"),
    (Histogram, "aftercheck_names_seconds", "one request to the analyzer of names"),
    (Counter, "aftercheck_judge_questions_total", "questions to judges: ok, or how they failed; not asked: budget, out, busy (by judge, outcome)"),
    (Counter, "aftercheck_judge_tokens_total", "tokens of judges: in, out (by judge, direction)"),
    (Gauge, "aftercheck_judge_usd", "US dollars that judges cost since the start, where a price is known (by judge)"),
    (Histogram, "aftercheck_judge_seconds", "one question to a judge (by judge)"),
    (Gauge, "aftercheck_judge_out", "1 while a judge is left alone because it failed too often (by judge)"),
    (Counter, "aftercheck_deferred_total", "calls put off because no judge could be asked: budget, out, busy (by why)"),
    (Counter, "aftercheck_caught_up_total", "deferred calls that were judged"),
    (Gauge, "aftercheck_deferred_calls", "calls that wait for a judge"),
    (Gauge, "aftercheck_scan_found", "cards, social security numbers and canaries that the last scan found in what is kept"),
    (Counter, "aftercheck_pruned_total", "what was deleted with age: evaluations, expired (by what)"),
    (Gauge, "aftercheck_ready", "1 when ready, 0 when starting, stalled or stopping"),
];

/// Seconds that the duration histograms count up to; from a cheap rule to a stuck commit.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0001, 0.0005, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Calls that one transaction may hold.
const CALLS_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// How often samples are moved into their buckets; between two times they take memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the recorder of this process, and keeps it small whether or not anybody scrapes.
///
/// # Errors
/// [`BuildError`] when another recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full("aftercheck_commit_calls".into()), &CALLS_BUCKETS)?
        .install_recorder()?;
    describe();
    let kept = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            kept.run_upkeep();
        }
    });
    Ok(handle)
}

/// Tells the recorder what each metric means.
fn describe() {
    for (kind, name, meaning) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, meaning),
            Kind::Gauge => describe_gauge!(name, meaning),
            Kind::Histogram => describe_histogram!(name, meaning),
        }
    }
}

/// Counts deliveries taken from a source.
pub fn received(source: &'static str, count: usize) {
    counter!("aftercheck_calls_received_total", "source" => source).increment(count as u64);
}

/// Counts what came over HTTP; `outcome` is `queued`, `refused` (bad messages) or `error` (requests).
pub fn ingested(outcome: &'static str, count: usize) {
    counter!("aftercheck_ingested_total", "outcome" => outcome).increment(count as u64);
}

/// Counts unknown top-level fields of one message.
pub fn unknown_fields(count: usize) {
    counter!("aftercheck_unknown_fields_total").increment(count as u64);
}

/// Counts one committed evaluation with its rules and stages.
pub fn evaluated(evaluation: &Evaluation) {
    let decided_by = match evaluation.decided_by {
        crate::domain::DecidedBy::Rules => "rules",
        crate::domain::DecidedBy::Nli => "nli",
        crate::domain::DecidedBy::Judge => "judge",
        crate::domain::DecidedBy::Human => "human",
        crate::domain::DecidedBy::Policy => "policy",
    };
    counter!("aftercheck_evaluations_total", "verdict" => evaluation.verdict.as_str(), "decided_by" => decided_by)
        .increment(1);
    for rule in &evaluation.rules {
        counter!("aftercheck_rule_outcomes_total", "rule" => rule.rule.clone(), "outcome" => rule.outcome.as_str())
            .increment(1);
    }
    for claim in &evaluation.claims {
        let doubt = claim.doubt.map_or("none", Doubt::as_str);
        counter!("aftercheck_claims_total", "label" => claim.label.as_str(), "doubt" => doubt).increment(1);
    }
    for stage in &evaluation.stages {
        histogram!("aftercheck_stage_seconds", "stage" => stage.stage.as_str()).record(stage.ms / 1000.0);
    }
}

/// Counts a delivery that was already decided; `kind` is `same` or `conflict`.
pub fn duplicate(kind: &'static str) {
    counter!("aftercheck_duplicates_total", "kind" => kind).increment(1);
}

/// Counts one committed dead letter.
pub fn dead_letter(class: &'static str) {
    counter!("aftercheck_dead_letters_total", "class" => class).increment(1);
}

/// Counts one settlement; `outcome` is `ok`, `lost` or `error`.
pub fn settled(disposition: &'static str, outcome: &'static str) {
    counter!("aftercheck_settled_total", "disposition" => disposition, "outcome" => outcome).increment(1);
}

/// Counts one request to the analyzer of names; `outcome` is `ok`, `unavailable`, `refused` or `unreadable`.
pub fn names_asked(outcome: &'static str, time: Duration) {
    counter!("aftercheck_names_requests_total", "outcome" => outcome).increment(1);
    histogram!("aftercheck_names_seconds").record(time.as_secs_f64());
}

/// Counts a call given back to be tried again.
pub fn retried(reason: &'static str) {
    counter!("aftercheck_retries_total", "reason" => reason).increment(1);
}

/// Measures one transaction of the store.
pub fn committed(took: Duration, calls: usize) {
    histogram!("aftercheck_commit_seconds").record(took);
    histogram!("aftercheck_commit_calls").record(calls as f64);
}

/// Shows what the last scan found that should not be there.
pub fn scanned(found: u64) {
    gauge!("aftercheck_scan_found").set(found as f64);
}

/// Counts calls that went on with their names.
pub fn names_left(reason: &'static str) {
    counter!("aftercheck_names_left_total", "reason" => reason).increment(1);
}

/// Counts what was deleted with age.
pub fn pruned(evaluations: u64, expired: u64) {
    counter!("aftercheck_pruned_total", "what" => "evaluations").increment(evaluations);
    counter!("aftercheck_pruned_total", "what" => "expired").increment(expired);
}

/// Shows how much is being worked on and how much more could be.
pub fn in_flight(busy: usize, free: usize) {
    gauge!("aftercheck_in_flight").set(busy as f64);
    gauge!("aftercheck_permits_free").set(free as f64);
}

/// Shows how much waits in the queue.
pub fn queue(depth: u64, oldest: Option<Duration>) {
    gauge!("aftercheck_queue_depth").set(depth as f64);
    if let Some(oldest) = oldest {
        gauge!("aftercheck_queue_oldest_seconds").set(oldest.as_secs_f64());
    }
}

/// Measures one batch through a model.
pub fn model_run(took: Duration, tokens: usize, padded: usize) {
    histogram!("aftercheck_model_run_seconds").record(took);
    counter!("aftercheck_model_tokens_total").increment(tokens as u64);
    counter!("aftercheck_model_padded_tokens_total").increment(padded as u64);
}

/// Counts pairs that were scored, or failed to be.
pub fn pairs_scored(pairs: usize) {
    counter!("aftercheck_model_pairs_total").increment(pairs as u64);
}

/// Counts texts that were turned into vectors, or failed to be.
pub fn texts_embedded(texts: usize) {
    counter!("aftercheck_model_texts_total").increment(texts as u64);
}

/// Counts a question to a judge by what came of it, or why it was not asked.
pub fn judge_asked(judge: &str, outcome: &'static str) {
    counter!("aftercheck_judge_questions_total", "judge" => judge.to_owned(), "outcome" => outcome)
        .increment(1);
}

/// Counts what a question took.
pub fn judge_answered(judge: &str, took: Duration, (tokens_in, tokens_out): (u64, u64), usd: f64) {
    for (direction, tokens) in [("in", tokens_in), ("out", tokens_out)] {
        counter!("aftercheck_judge_tokens_total", "judge" => judge.to_owned(), "direction" => direction)
            .increment(tokens);
    }
    // Counters hold whole numbers; a gauge that only grows holds parts of a dollar.
    gauge!("aftercheck_judge_usd", "judge" => judge.to_owned()).increment(usd);
    histogram!("aftercheck_judge_seconds", "judge" => judge.to_owned()).record(took.as_secs_f64());
}

/// Counts a call that is put off because no judge could be asked.
pub fn deferred(why: &'static str) {
    counter!("aftercheck_deferred_total", "why" => why).increment(1);
}

/// Counts a deferred call that was judged.
pub fn caught_up() {
    counter!("aftercheck_caught_up_total").increment(1);
}

/// Says how many calls wait for a judge.
pub fn deferred_calls(count: u64) {
    gauge!("aftercheck_deferred_calls").set(count as f64);
}

/// Says whether a judge is left alone.
pub fn judge_out(judge: &str, out: bool) {
    gauge!("aftercheck_judge_out", "judge" => judge.to_owned()).set(if out { 1.0 } else { 0.0 });
}

/// Counts outbox rows of one sink; `outcome` is `delivered`, `retracted`, `retry` or `dead`.
pub fn delivered(sink: &str, outcome: &'static str, count: usize) {
    counter!("aftercheck_deliveries_total", "sink" => sink.to_owned(), "outcome" => outcome)
        .increment(count as u64);
}

/// Measures one batch of one sink.
pub fn batch_delivered(sink: &str, took: Duration) {
    histogram!("aftercheck_delivery_seconds", "sink" => sink.to_owned()).record(took.as_secs_f64());
}

/// Shows whether a sink is left alone.
pub fn sink_resting(sink: &str, resting: bool) {
    gauge!("aftercheck_sink_resting", "sink" => sink.to_owned()).set(if resting { 1.0 } else { 0.0 });
}

/// Shows how a sink stands.
pub fn sink(sink: &str, pending: u64, oldest_ms: Option<i64>, dead: u64, paused: bool) {
    let oldest = oldest_ms.unwrap_or(0) as f64 / 1000.0;
    gauge!("aftercheck_outbox_pending", "sink" => sink.to_owned()).set(pending as f64);
    gauge!("aftercheck_outbox_oldest_seconds", "sink" => sink.to_owned()).set(oldest);
    gauge!("aftercheck_outbox_dead", "sink" => sink.to_owned()).set(dead as f64);
    gauge!("aftercheck_sink_paused", "sink" => sink.to_owned()).set(if paused { 1.0 } else { 0.0 });
}

/// Counts notices of one route; `outcome` is `told`, `retry`, `dead` or `off`.
pub fn notified(route: &str, outcome: &'static str, count: usize) {
    counter!("aftercheck_notices_total", "route" => route.to_owned(), "outcome" => outcome)
        .increment(count as u64);
}

/// Shows whether the process is ready.
pub fn ready(ready: bool) {
    gauge!("aftercheck_ready").set(if ready { 1.0 } else { 0.0 });
}
