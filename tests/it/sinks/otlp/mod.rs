//! Log events and metrics over OTLP, against a collector of our own that speaks both protocols.

pub mod collector;
mod live;

use std::{collections::BTreeMap, sync::Arc};

use aftercheck::sinks::{Item, Outcome, Sink, SinkError};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
    metrics::v1::{HistogramDataPoint, metric::Data, number_data_point},
};
use serde_json::{Value, json};

use self::collector::{Collector, Fault};
use super::items::{
    batch, evaluation, expected, golden, label, retractions, scored, sink, span, trace, verdict,
};

/// A collector, and a sink that writes to it by a protocol.
async fn collected(protocol: &str, more: &str) -> (Collector, Arc<dyn Sink>) {
    let collector = Collector::default();
    let url = collector.serve().await;
    let sink =
        sink(&format!("kind = 'otlp'\nprotocol = '{protocol}'\nurl = '{url}'\ntimeout_ms = 500\n{more}"));
    (collector, sink)
}

/// Delivers as a dispatcher does: again what may still work.
async fn deliver(sink: &dyn Sink, items: &[Item]) -> Vec<Outcome> {
    for _ in 0..50 {
        match sink.deliver(items).await {
            Ok(outcomes) => return outcomes,
            Err(SinkError::Again { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("still not delivered")
}

/// Attributes by their name.
pub fn attributes(all: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |one: &KeyValue| match one.value.clone().unwrap().value.unwrap() {
        Any::StringValue(text) => json!(text),
        Any::DoubleValue(number) => json!(number),
        other => panic!("{other:?}"),
    };
    all.iter().map(|one| (one.key.clone(), value(one))).collect()
}

/// Names and values of the scores of a trace, each once however often it came, as [`expected`] has them.
fn scores(records: &[LogRecord], number: u128) -> BTreeMap<String, Value> {
    let of = records.iter().filter(|record| hex(&record.trace_id) == trace(number));
    let mut found: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    for record in of {
        assert_eq!(record.event_name, "gen_ai.evaluation.result");
        assert_eq!(hex(&record.span_id), span(number));
        let said = attributes(&record.attributes);
        let name = said["gen_ai.evaluation.name"].as_str().unwrap().to_owned();
        let (score, word) =
            (said.get("gen_ai.evaluation.score.value"), said.get("gen_ai.evaluation.score.label"));
        let value = match (name.starts_with("rule."), score, word) {
            (true, Some(score), Some(word)) => {
                assert_eq!(word, if *score == 1.0 { "pass" } else { "fail" });
                json!(*score == 1.0)
            }
            (false, Some(score), _) => score.clone(),
            (_, _, word) => word.unwrap().clone(),
        };
        let before = found.insert(said["log.record.uid"].to_string(), (json!(name), value.clone()));
        assert!(before.is_none_or(|before| before == (json!(name), value)), "a uid is of one record");
    }
    let all = found.len();
    let by_name: BTreeMap<String, Value> =
        found.into_values().map(|(name, value)| (name.as_str().unwrap().to_owned(), value)).collect();
    assert_eq!(by_name.len(), all, "a score has one uid");
    by_name
}

/// In lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn each_score_is_an_event_of_its_trace_by_both_protocols() {
    for protocol in ["http", "grpc"] {
        let (collector, sink) = collected(protocol, "").await;
        let again = [Fault::Busy, Fault::DoesAndIsSilent, Fault::Gone, Fault::Busy];
        collector.fails(again);
        let outcomes = deliver(sink.as_ref(), &batch(12)).await;
        assert_eq!(outcomes, vec![Outcome::DELIVERED; 12]);
        assert_eq!(collector.faults_left(), 0);
        let records = collector.records();
        assert_eq!(records.len(), 2 * 60, "the silent one took them as well");
        for number in 0..12 {
            assert_eq!(scores(&records, number), expected(number, verdict(number)), "{number}");
        }
        let one = records.iter().find(|record| hex(&record.trace_id) == trace(1)).unwrap();
        let said = attributes(&one.attributes);
        assert_eq!(
            (&said["gen_ai.evaluation.name"], &said["aftercheck.request.id"]),
            (&json!("verdict"), &json!("r-1"))
        );
        assert!(said["gen_ai.evaluation.explanation"].as_str().unwrap().contains("It is free."));
        assert_eq!(said["aftercheck.annotator"], "code");
        assert!(one.time_unix_nano > 1_700_000_000_000_000_000);
        deliver(sink.as_ref(), &[label(1, "fail"), golden(1, "set", None)]).await;
        let records = collector.records();
        let review = attributes(&records.last().unwrap().attributes);
        assert_eq!((records.len(), &review["gen_ai.evaluation.name"]), (121, &json!("review")));
        assert_eq!(
            (&review["gen_ai.evaluation.score.label"], &review["aftercheck.annotator"]),
            (&json!("fail"), &json!("human"))
        );
    }
}

#[tokio::test]
async fn only_what_the_specification_lets_is_sent_again() {
    let class = |answer: Result<Vec<Outcome>, SinkError>| match answer {
        Ok(_) => "taken",
        Err(SinkError::Again { after, .. }) => after.map_or("again", |_| "again later"),
        Err(SinkError::Denied(_)) => "denied",
        Err(SinkError::Refused(_)) => "refused",
    };
    let (collector, http) = collected("http", "metrics = false").await;
    for (status, expected) in [
        (429, "again"),
        (502, "again"),
        (503, "again"),
        (504, "again"),
        (500, "refused"),
        (408, "refused"),
        (400, "refused"),
        (413, "refused"),
        (401, "denied"),
        (403, "denied"),
        (404, "denied"),
        (307, "denied"),
    ] {
        collector.fails([Fault::Status(status)]);
        assert_eq!(class(http.deliver(&batch(1)).await), expected, "{status}");
    }
    let (collector, grpc) = collected("grpc", "metrics = false").await;
    for (code, delay, expected) in [
        (14, None, "again"),
        (14, Some(7), "again later"),
        (4, None, "again"),
        (8, Some(3), "again later"),
        (8, None, "refused"),
        (3, None, "refused"),
        (13, None, "refused"),
        (16, None, "denied"),
        (7, None, "denied"),
        (12, None, "denied"),
    ] {
        collector.fails([Fault::Code(code, delay)]);
        assert_eq!(class(grpc.deliver(&batch(1)).await), expected, "{code}");
    }
    collector.fails([Fault::Status(503), Fault::Status(404)]);
    assert_eq!(class(grpc.deliver(&batch(1)).await), "again");
    assert_eq!(class(grpc.deliver(&batch(1)).await), "denied");
    assert_eq!(class(grpc.deliver(&batch(1)).await), "taken");
    assert_eq!(collector.records().len(), 5);
}

#[tokio::test]
async fn a_part_that_is_refused_is_not_sent_again_and_not_forgotten() {
    for protocol in ["http", "grpc"] {
        let (collector, sink) = collected(protocol, "metrics = false").await;
        collector.fails([Fault::Partial(2), Fault::Partial(0)]);
        let mut unlinked = evaluation(9, "pass");
        unlinked["trace_id"] = json!("trace-9");
        let mut items = batch(2);
        items.push(scored(unlinked));
        let outcomes = sink.deliver(&items).await.unwrap();
        for (outcome, part) in
            outcomes.iter().zip(["2 of the 10 records", "2 of the 10 records", "trace_id: not 32"])
        {
            let (Outcome::Never { reason } | Outcome::Unsent { reason: Some(reason) }) = outcome else {
                panic!("{outcome:?}")
            };
            assert!(reason.contains(part), "{outcome:?}");
        }
        assert!(!format!("{outcomes:?}").contains("what was sent"), "nothing of the answer");
        assert_eq!(
            sink.deliver(&items[..2]).await.unwrap(),
            [Outcome::DELIVERED, Outcome::DELIVERED],
            "a warning only"
        );
    }
}

#[tokio::test]
async fn what_was_delivered_cannot_be_deleted_and_that_is_said() {
    let (collector, sink) = collected("http", "").await;
    let items = batch(1);
    let outcomes = deliver(sink.as_ref(), &items).await;
    let refused = sink.retract(&retractions(&items, &outcomes)).await;
    assert!(matches!(refused, Err(SinkError::Refused(said)) if said.contains("cannot delete")));
    let row = [golden(1, "set", None)];
    let outcomes = deliver(sink.as_ref(), &row).await;
    assert_eq!(outcomes, [Outcome::NO_PLACE], "nobody was asked");
    assert!(sink.retract(&retractions(&row, &outcomes)).await.unwrap().is_empty(), "it never was there");
    assert_eq!(collector.records().len(), 5);
}

/// Evaluations by feature and verdict, and the histograms, of the last metrics that came.
fn totals(collector: &Collector) -> (BTreeMap<(String, String), i64>, Vec<HistogramDataPoint>) {
    let last = collector.metrics().pop().unwrap();
    let metrics = &last.resource_metrics[0].scope_metrics[0].metrics;
    let word = |all: &[KeyValue], key: &str| attributes(all)[key].as_str().unwrap().to_owned();
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!() };
    assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, 2));
    let counts = sum.data_points.iter().map(|point| {
        let Some(number_data_point::Value::AsInt(count)) = point.value else { panic!() };
        assert!(point.start_time_unix_nano < point.time_unix_nano);
        let all = &point.attributes;
        ((word(all, "aftercheck.feature"), word(all, "aftercheck.verdict")), count)
    });
    let Some(Data::Histogram(histogram)) = &metrics[1].data else { panic!() };
    (counts.collect(), histogram.data_points.clone())
}

#[tokio::test]
async fn totals_are_cumulative_count_no_repeat_and_are_bounded() {
    for protocol in ["http", "grpc"] {
        let (collector, sink) = collected(protocol, "").await;
        deliver(sink.as_ref(), &batch(8)).await;
        deliver(sink.as_ref(), &batch(8)).await;
        let (counts, histograms) = totals(&collector);
        assert_eq!(counts[&("f".to_owned(), "fail".to_owned())], 2);
        assert_eq!(counts.values().sum::<i64>(), 8, "the second time nothing is new");
        for point in &histograms {
            assert_eq!(point.count, point.bucket_counts.iter().sum::<u64>());
            assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        }
        let judged =
            histograms.iter().filter(|one| attributes(&one.attributes)["gen_ai.evaluation.name"] == "judge");
        assert!(
            judged.clone().all(|one| one.bucket_counts[1] == 2 && (one.sum.unwrap() - 0.25).abs() < 1e-9)
        );
        assert_eq!(judged.map(|one| one.count).sum::<u64>(), 8);
        // Metrics that do not arrive hold up no event, and the next ones say all.
        collector.fails_metrics(1);
        let many: Vec<Item> = (100..350u128)
            .map(|number| {
                let mut evaluation = evaluation(number, "pass");
                evaluation["feature"] = json!(format!("feature-{number}"));
                scored(evaluation)
            })
            .collect();
        assert_eq!(deliver(sink.as_ref(), &many[..125]).await, vec![Outcome::DELIVERED; 125]);
        deliver(sink.as_ref(), &many[125..]).await;
        let (counts, histograms) = totals(&collector);
        assert_eq!(counts.values().sum::<i64>(), 8 + 250);
        assert_eq!(counts[&("other".to_owned(), "pass".to_owned())], 250 - 99);
        assert!(counts.len() <= 4 * 101 && histograms.len() <= 2 * 4 * 101);
    }
}

#[tokio::test]
async fn metrics_that_hang_cost_no_event() {
    let collector = Collector::default();
    let url = collector.serve().await;
    let sink = sink(&format!("kind = 'otlp'\nurl = '{url}'\ntimeout_ms = 30000"));
    collector.hangs_on_metrics();
    let begun = std::time::Instant::now();
    assert_eq!(sink.deliver(&batch(2)).await.unwrap(), [Outcome::DELIVERED, Outcome::DELIVERED]);
    assert!(begun.elapsed().as_secs() < 15, "a batch has 50 s, and its events may take 30 of them");
    assert_eq!(collector.records().len(), 10);
}

#[tokio::test]
async fn check_says_what_to_fix() {
    for protocol in ["http", "grpc"] {
        let (collector, sink) = collected(protocol, "").await;
        assert_eq!(sink.check().await.unwrap(), "takes logs and metrics over OTLP");
        assert_eq!((collector.records().len(), collector.metrics().len()), (0, 1));
        collector.needs("authorization", "Bearer otlp-key");
        assert!(matches!(sink.check().await, Err(SinkError::Denied(_))));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "otlp-key").unwrap();
        let url = collector.serve().await;
        let with = super::items::sink(&format!(
            "kind = 'otlp'\nprotocol = '{protocol}'\nurl = '{url}'\nkey_file = '{}'",
            file.display()
        ));
        with.check().await.unwrap();
        collector.needs("x-scope", "otlp-key");
        let named = super::items::sink(&format!(
            "kind = 'otlp'\nprotocol = '{protocol}'\nurl = '{url}'\nkey_file = '{}'\nkey_header = 'X-Scope'\nkey_prefix = ''",
            file.display()
        ));
        named.check().await.unwrap();
        let nobody = super::items::sink(&format!(
            "kind = 'otlp'\nprotocol = '{protocol}'\nurl = 'http://127.0.0.1:1'"
        ));
        assert!(matches!(nobody.check().await, Err(SinkError::Again { .. })));
    }
}
