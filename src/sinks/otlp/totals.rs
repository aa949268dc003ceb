//! Totals since the process began, as cumulative metrics: sent again, or after a request that was lost, they say the same.
//! What is counted is bounded: features beyond the first [`MAX_FEATURES`] are counted as `other`, and nothing is counted by
//! tenant, call or rule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use uuid::Uuid;

use super::records::{scope, text};
use crate::sinks::{
    Content, Item,
    scores::{FAITHFULNESS, JUDGE},
};

/// Most features that are told apart.
const MAX_FEATURES: usize = 100;
/// What the others are counted as.
const OTHER: &str = "other";
/// Upper bounds of the histogram's buckets, but for the last.
const BOUNDS: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Deliveries that are known to be counted, so that a repeat is not counted again.
const MAX_COUNTED: usize = 10_000;

/// What was delivered so far.
#[derive(Default)]
pub(super) struct Totals {
    features: BTreeSet<String>,
    evaluations: BTreeMap<(String, &'static str), u64>,
    scores: BTreeMap<(&'static str, String, &'static str), Scores>,
    counted: BTreeSet<Uuid>,
    order: VecDeque<Uuid>,
}

/// A histogram.
#[derive(Default, Clone)]
struct Scores {
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Totals {
    /// Counts an item that was delivered, unless it was counted just before.
    pub(super) fn count(&mut self, item: &Item) {
        let Content::Evaluation(scored) = &item.content else { return };
        if !self.counted.insert(item.delivery_id) {
            return;
        }
        self.order.push_back(item.delivery_id);
        if self.order.len() > MAX_COUNTED
            && let Some(oldest) = self.order.pop_front()
        {
            self.counted.remove(&oldest);
        }
        let evaluation = &scored.evaluation;
        let (feature, verdict) = (self.feature(&evaluation.feature), evaluation.verdict.as_str());
        *self.evaluations.entry((feature.clone(), verdict)).or_default() += 1;
        let judged = evaluation.judge.as_ref().map(|judge| judge.score);
        for (name, score) in [(FAITHFULNESS, evaluation.faithfulness), (JUDGE, judged)] {
            let Some(score) = score.filter(|score| score.is_finite()) else { continue };
            let scores = self.scores.entry((name, feature.clone(), verdict)).or_default();
            scores.buckets[BOUNDS.partition_point(|bound| *bound < score)] += 1;
            scores.sum += score;
        }
    }

    /// What a feature is counted as.
    fn feature(&mut self, feature: &str) -> String {
        if !self.features.contains(feature) {
            if self.features.len() >= MAX_FEATURES {
                return OTHER.to_owned();
            }
            self.features.insert(feature.to_owned());
        }
        feature.to_owned()
    }

    /// A request with all totals, since and until these times in Unix nanoseconds.
    pub(super) fn request(&self, resource: &Resource, since: u64, until: u64) -> ExportMetricsServiceRequest {
        let counts = self.evaluations.iter().map(|((feature, verdict), count)| NumberDataPoint {
            attributes: by(feature, verdict),
            start_time_unix_nano: since,
            time_unix_nano: until,
            value: Some(number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        });
        let counts = Sum {
            data_points: counts.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        };
        let scores = self.scores.iter().map(|((name, feature, verdict), scores)| HistogramDataPoint {
            attributes: [vec![text("gen_ai.evaluation.name", name)], by(feature, verdict)].concat(),
            start_time_unix_nano: since,
            time_unix_nano: until,
            count: scores.buckets.iter().sum(),
            sum: Some(scores.sum),
            bucket_counts: scores.buckets.to_vec(),
            explicit_bounds: BOUNDS.to_vec(),
            ..HistogramDataPoint::default()
        });
        let scores = Histogram {
            data_points: scores.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        let metrics = vec![
            metric(
                "aftercheck.evaluations",
                "Evaluations that were delivered.",
                "{evaluation}",
                Data::Sum(counts),
            ),
            metric("aftercheck.evaluation.score", "Their scores, 0 to 1.", "1", Data::Histogram(scores)),
        ];
        let scoped = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource_metrics = ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![scoped],
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
    }
}

/// What points are told apart by.
fn by(feature: &str, verdict: &str) -> Vec<KeyValue> {
    vec![text("aftercheck.feature", feature), text("aftercheck.verdict", verdict)]
}

/// One metric with its points.
fn metric(name: &str, description: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}
