//! What a group of verdicts writes: prepared once, so that a repeat sends the same.

use std::{borrow::Cow, collections::HashMap, collections::HashSet};

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreError, harmless, harmless_json, note_all, notices};
use crate::{
    domain::{
        Evaluation, id,
        review::{FRESH_MS, HEAD_START_MS},
    },
    store::{Record, Recorded, ReviewItem, Sealed, json},
};

/// What [`write`] sends for the verdicts of a group.
const VERDICTS: &str = include_str!("verdicts.sql");

/// Writes calls that are not there, and gives back the digest of each that was not.
const CALLS: &str =
    "INSERT INTO calls (tenant_id, request_id, body_digest, body, user_key, feature, occurred_ms, received_ms, source)
     SELECT tenant_id, request_id, body_digest, body, user_key, feature, occurred_ms, aftercheck_now_ms(), source
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[])
         AS given (tenant_id, request_id, body_digest, body, user_key, feature, occurred_ms, source)
     ON CONFLICT DO NOTHING
     RETURNING tenant_id, request_id, body_digest";
/// Digests of the bodies that are kept; the calls stay as they are until the group is committed: not one is erased in between.
const KEPT: &str = "SELECT tenant_id, request_id, body_digest FROM calls
     JOIN unnest($1::text[], $2::text[]) AS given (tenant_id, request_id) USING (tenant_id, request_id)
     ORDER BY request_id, tenant_id FOR KEY SHARE OF calls";

/// Writes sealed messages of calls.
const SEALED: &str = "INSERT INTO sealed (tenant_id, request_id, message, expires_ms)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) ON CONFLICT DO NOTHING";

/// A group as the statements want it: in the order of the keys, whatever order the records came in, so that two
/// workers that commit overlapping groups take the same locks in the same order.
pub(super) struct Group<'a> {
    records: &'a [Record],
    /// Places in `records`, in the order of the keys.
    order: Vec<usize>,
    calls: Calls<'a>,
    /// Each record as JSON, in the order of `records`.
    verdicts: Vec<String>,
}

/// Columns of the calls of a group, one row a call: of several bodies the first record's.
#[derive(Default)]
struct Calls<'a> {
    tenant_ids: Vec<&'a str>,
    request_ids: Vec<&'a str>,
    digests: Vec<&'a str>,
    bodies: Vec<Cow<'a, str>>,
    user_keys: Vec<Option<Cow<'a, str>>>,
    features: Vec<Cow<'a, str>>,
    occurred_ms: Vec<i64>,
    sources: Vec<&'a str>,
    sealed: Vec<Option<&'a Sealed>>,
}

/// One verdict as `verdicts.sql` reads it.
#[derive(Serialize)]
struct Verdict<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    evaluated_ms: i64,
    scores: Vec<Score>,
    review: Option<Review<'a>>,
    deliveries: Vec<Delivery<'a>>,
}

/// One score of a trace backend.
#[derive(Serialize)]
struct Score {
    score_id: Uuid,
    name: &'static str,
    value: Option<f64>,
    label: Option<&'static str>,
}

/// The review item of a verdict.
#[derive(Serialize)]
struct Review<'a> {
    review_id: Uuid,
    head_start_ms: f64,
    newness_ms: f64,
    fresh_ms: i64,
    #[serde(flatten)]
    item: &'a ReviewItem,
}

/// One outbox row of a verdict.
#[derive(Serialize)]
struct Delivery<'a> {
    delivery_id: Uuid,
    sink: &'a str,
}

impl<'a> Group<'a> {
    /// Prepares a group.
    pub(super) fn new(records: &'a [Record]) -> Result<Self, StoreError> {
        let key = |place: &usize| {
            let Evaluation { tenant_id, request_id, evaluator_version, .. } = &records[*place].evaluation;
            (tenant_id, request_id, evaluator_version, *place)
        };
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        let calls = Calls::new(records);
        let verdicts = records.iter().map(verdict).collect::<Result<_, _>>()?;
        Ok(Self { records, order, calls, verdicts })
    }

    /// Digests of the payloads that end with this group.
    pub(super) fn payloads(&self) -> Vec<&'a str> {
        self.records.iter().map(|record| record.payload_digest.as_str()).collect()
    }

    /// Writes the group within a transaction: calls, conflicts, verdicts.
    pub(super) async fn write(&self, tx: &mut PgConnection) -> Result<Vec<Recorded>, sqlx::Error> {
        let kept = self.calls.write(tx).await?;
        let there: Vec<Option<&String>> = self
            .records
            .iter()
            .map(|Record { evaluation: call, .. }| {
                kept.get(&(call.tenant_id.as_str(), call.request_id.as_str()))
            })
            .collect();
        let differs = |(record, there): (&Record, &Option<&String>)| {
            there.is_some_and(|there| *there != record.kept.body_digest)
        };
        let conflicts: Vec<bool> = self.records.iter().zip(&there).map(differs).collect();
        // An erased call has no digest, and is no conflict: nothing of it is written.
        let erased = |place: usize| there[place].is_some_and(String::is_empty);
        self.note_conflicts(tx, |place| conflicts[place] && !erased(place)).await?;
        let mut written = self.write_verdicts(tx, &conflicts).await?;
        let outcome = |(place, record): (usize, &Record)| match conflicts[place] {
            true if erased(place) => Recorded::Erased,
            true => Recorded::Conflict,
            // Of several records with one key, the first is the one that was written.
            false if written.remove(&record.evaluation.evaluation_id) => Recorded::New,
            false => Recorded::AlreadyThere,
        };
        let outcomes: Vec<Recorded> = self.records.iter().enumerate().map(outcome).collect();
        self.write_notices(tx, &outcomes).await?;
        Ok(outcomes)
    }

    /// Writes what people should hear of verdicts that are new, in the order of their keys.
    async fn write_notices(&self, tx: &mut PgConnection, outcomes: &[Recorded]) -> Result<(), sqlx::Error> {
        let is_new = |place: &&usize| outcomes[**place] == Recorded::New;
        let new = self.order.iter().filter(is_new).flat_map(|&place| &self.records[place].notices);
        notices::write(tx, &new.cloned().collect::<Vec<_>>()).await.map(drop)
    }

    /// Writes the call of the first record, unless it is there; gives back the digest of the body that is kept.
    pub(super) async fn write_call(&self, tx: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
        let kept = self.calls.write(tx).await?;
        Ok(kept.into_values().next())
    }

    /// Enters in the ledger that calls came with another body.
    async fn note_conflicts(
        &self,
        tx: &mut PgConnection,
        is_one: impl Fn(usize) -> bool,
    ) -> Result<(), sqlx::Error> {
        let entries: Vec<_> = self
            .order
            .iter()
            .filter(|&&place| is_one(place))
            .map(|&place| {
                let Record { kept, evaluation: call, .. } = &self.records[place];
                (call.tenant_id.as_str(), call.request_id.as_str(), kept.body_digest.as_str())
            })
            .collect();
        match entries.is_empty() {
            true => Ok(()),
            false => note_all(tx, "conflict", &entries).await,
        }
    }

    /// Writes verdicts whose call does not conflict; gives back the ids of those that were not there.
    async fn write_verdicts(
        &self,
        tx: &mut PgConnection,
        conflicts: &[bool],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let mut seen = HashSet::new();
        let verdicts: Vec<&str> = self
            .order
            .iter()
            .filter(|&&place| !conflicts[place] && seen.insert(self.records[place].evaluation.evaluation_id))
            .map(|&place| self.verdicts[place].as_str())
            .collect();
        if verdicts.is_empty() {
            return Ok(HashSet::new());
        }
        let written: Vec<Uuid> = sqlx::query_scalar(VERDICTS)
            .bind(format!("[{}]", verdicts.join(",")))
            .fetch_all(&mut *tx)
            .await?;
        Ok(written.into_iter().collect())
    }
}

impl<'a> Calls<'a> {
    /// The calls of a group in the order of their keys.
    fn new(records: &'a [Record]) -> Self {
        let mut places: Vec<usize> = (0..records.len()).collect();
        let key = |place: &usize| {
            let call = &records[*place].evaluation;
            (&call.tenant_id, &call.request_id)
        };
        // Stable: of several bodies of a call the first stays first, and the others are left out.
        places.sort_by(|a, b| key(a).cmp(&key(b)));
        places.dedup_by(|later, first| key(later) == key(first));
        let mut calls = Self::default();
        for place in places {
            let Record { kept, evaluation: call, source, .. } = &records[place];
            calls.tenant_ids.push(&call.tenant_id);
            calls.request_ids.push(&call.request_id);
            calls.digests.push(&kept.body_digest);
            calls.bodies.push(harmless_json(&kept.body));
            calls.user_keys.push(kept.user_key.as_deref().map(harmless));
            calls.features.push(harmless(&call.feature));
            calls.occurred_ms.push(call.occurred_at.as_millisecond());
            calls.sources.push(source);
            calls.sealed.push(kept.sealed.as_ref());
        }
        calls
    }

    /// Writes the sealed messages of calls that are new: those whose key is in `written`.
    async fn seal(
        &self,
        tx: &mut PgConnection,
        written: &[(String, String, String)],
    ) -> Result<(), sqlx::Error> {
        if self.sealed.iter().all(Option::is_none) {
            return Ok(());
        }
        let written: HashSet<(&str, &str)> =
            written.iter().map(|(tenant, request, _)| (tenant.as_str(), request.as_str())).collect();
        let (mut tenants, mut requests, mut messages, mut ends) = (vec![], vec![], vec![], vec![]);
        for ((tenant, request), sealed) in self.tenant_ids.iter().zip(&self.request_ids).zip(&self.sealed) {
            let Some(sealed) = sealed.filter(|_| written.contains(&(*tenant, *request))) else { continue };
            tenants.push(*tenant);
            requests.push(*request);
            messages.push(&sealed.message[..]);
            ends.push(sealed.expires_ms);
        }
        sqlx::query(SEALED)
            .bind(&tenants)
            .bind(&requests)
            .bind(&messages)
            .bind(&ends)
            .execute(&mut *tx)
            .await?;
        Ok(())
    }

    /// Writes calls that are not there; gives back the digest of the body that is kept of each.
    async fn write(&self, tx: &mut PgConnection) -> Result<HashMap<(&'a str, &'a str), String>, sqlx::Error> {
        let mut kept: Vec<(String, String, String)> = sqlx::query_as(CALLS)
            .bind(&self.tenant_ids)
            .bind(&self.request_ids)
            .bind(&self.digests)
            .bind(&self.bodies)
            .bind(&self.user_keys)
            .bind(&self.features)
            .bind(&self.occurred_ms)
            .bind(&self.sources)
            .fetch_all(&mut *tx)
            .await?;
        self.seal(tx, &kept).await?;
        if kept.len() < self.tenant_ids.len() {
            // A statement of its own: the one above does not see what others committed while it waited for them.
            // A call that is pruned in between is not found; its evaluation then breaks the foreign key, and the
            // group is tried again.
            kept = sqlx::query_as(KEPT)
                .bind(&self.tenant_ids)
                .bind(&self.request_ids)
                .fetch_all(&mut *tx)
                .await?;
        }
        let mut digests: HashMap<_, _> =
            kept.into_iter().map(|(tenant, request, digest)| ((tenant, request), digest)).collect();
        let keys = self.tenant_ids.iter().copied().zip(self.request_ids.iter().copied());
        Ok(keys
            .filter_map(|key| Some((key, digests.remove(&(key.0.to_owned(), key.1.to_owned()))?)))
            .collect())
    }
}

/// One record as JSON.
fn verdict(record: &Record) -> Result<String, StoreError> {
    let evaluation = &record.evaluation;
    let id = evaluation.evaluation_id.to_string();
    let derived = |kind, parts: &[&str]| id::derived_at(evaluation.occurred_at, kind, parts);
    let score = |name, value, label| Score { score_id: derived("score", &[&id, name]), name, value, label };
    let mut scores = vec![score("verdict", None, Some(evaluation.verdict.as_str()))];
    scores.extend(evaluation.faithfulness.map(|value| score("faithfulness", Some(value), None)));
    let review = record.review.as_ref().map(|item| Review {
        review_id: derived("review", &[&id]),
        head_start_ms: item.value * HEAD_START_MS as f64,
        newness_ms: item.newness * HEAD_START_MS as f64,
        fresh_ms: FRESH_MS,
        item,
    });
    let delivery = |sink: &'_ String| derived("delivery", &[sink, &id]);
    let deliveries = record.sinks.iter().map(|sink| Delivery { delivery_id: delivery(sink), sink }).collect();
    let evaluated_ms = evaluation.evaluated_at.as_millisecond();
    let text = json("evaluation", &Verdict { evaluation, evaluated_ms, scores, review, deliveries })?;
    Ok(harmless_json(&text).into_owned())
}
