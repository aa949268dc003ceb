//! What people said of calls, and the calls they said it of.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::terminal;
use crate::{
    config::Config,
    domain::{Call, Reason, Said},
    pipeline::decode::decode,
    redaction::Redactor,
    store::{Store, reviewing::FinalLabel},
};

/// Labels that are read at a time.
const PAGE: u32 = 500;

/// One line of labels.
#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    #[serde(default)]
    tenant_id: Option<String>,
    label: Label,
}

/// What a person said of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Label {
    /// The contexts support it.
    Supported,
    /// They do not.
    Unsupported,
}

/// Labels by request id, then tenant where one is named; the last line of a call counts.
pub(super) type Labels = BTreeMap<String, BTreeMap<Option<String>, Label>>;

/// What a person said of a call: of its tenant, or of any.
pub(super) fn of(labels: &Labels, request_id: &str, tenant_id: &str) -> Option<Label> {
    let given = labels.get(request_id)?;
    given.get(&Some(tenant_id.to_owned())).or_else(|| given.get(&None)).copied()
}

/// Reads the labels.
pub(super) fn read(file: &Path, redactor: &Redactor) -> anyhow::Result<Labels> {
    let mut labels = Labels::new();
    for (number, line) in terminal::lines(file)?.enumerate() {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Line { request_id, tenant_id, label } = serde_json::from_slice(&line).with_context(|| {
            format!(
                "{} line {}: a label needs request_id and label, \"supported\" or \"unsupported\"",
                file.display(),
                number + 1
            )
        })?;
        // Calls are found under the names that redaction leaves them.
        let tenant_id = tenant_id.map(|tenant_id| redactor.identity(&tenant_id).into_owned());
        labels.entry(redactor.identity(&request_id).into_owned()).or_default().insert(tenant_id, label);
    }
    ensure!(!labels.is_empty(), "{}: no labels", file.display());
    Ok(labels)
}

/// What counts of what people said at the review queue: that an answer holds, or not. A failed rule may be why it does not, which
/// says nothing of its contexts: such a call has no label here, nor has one of which nobody can tell.
pub(super) async fn of_store(store: &dyn Store) -> anyhow::Result<Labels> {
    let (mut labels, mut after) = (Labels::new(), None);
    loop {
        let page = store.final_labels(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(labels) };
        after = Some((last.decided_ms, last.entry.evaluation_id));
        for FinalLabel { entry, tenant_id, request_id, reasons, .. } in page {
            let by_rule = reasons
                .iter()
                .any(|reason| matches!(reason, Reason::RuleFailed | Reason::RuleReview | Reason::RuleError));
            let label = match entry.said {
                Said::Pass => Label::Supported,
                Said::Fail if !by_rule => Label::Unsupported,
                Said::Fail | Said::Unsure => continue,
            };
            labels.entry(request_id).or_default().insert(Some(tenant_id), label);
        }
    }
}

/// The labelled calls of a file; of calls with the same id the first.
pub(super) fn calls_of_file(
    file: &Path,
    labels: &Labels,
    redactor: &Redactor,
) -> anyhow::Result<Vec<(Call, Label)>> {
    let mut found = BTreeMap::new();
    for line in terminal::lines(file)? {
        // What cannot be evaluated has no score to calibrate.
        let Ok(decoded) = decode(&line?, redactor) else { continue };
        let call = decoded.call;
        if labels.contains_key(&call.request_id) {
            found.entry((call.request_id.clone(), call.tenant_id.clone())).or_insert(call);
        }
    }
    matched(found, labels)
}

/// The labelled calls of the database.
pub(super) async fn calls_of_store(config: &Config, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let (databases, store) = super::open(config).await?;
    let mut found = BTreeMap::new();
    for request_id in labels.keys() {
        let stories = store.stories(None, request_id).await?;
        let received = stories.into_iter().filter_map(|story| story.received);
        found.extend(received.map(|first| ((request_id.clone(), first.call.tenant_id.clone()), first.call)));
    }
    databases.close().await;
    matched(found, labels)
}

/// Gives each call its label: that of its tenant, or one without a tenant where no other tenant has the request id.
/// In order of their ids: the folds go by place, and the same labels shall give the same calibration.
fn matched(found: BTreeMap<(String, String), Call>, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let mut tenants: BTreeMap<String, usize> = BTreeMap::new();
    for (request_id, _) in found.keys() {
        *tenants.entry(request_id.clone()).or_default() += 1;
    }
    let mut calls = Vec::with_capacity(found.len());
    for ((request_id, tenant), call) in found {
        let Some(given) = labels.get(&request_id) else { continue };
        let label = match (given.get(&Some(tenant)), given.get(&None)) {
            (Some(own), _) => own,
            (None, Some(any)) if tenants.get(&request_id) == Some(&1) => any,
            (None, Some(_)) => {
                bail!("request id {request_id} is known in several tenants: name tenant_id in its label")
            }
            (None, None) => continue,
        };
        calls.push((call, *label));
    }
    Ok(calls)
}
