//! What a store promises, whoever keeps it: each check runs on SQLite always, and on Postgres where
//! `AFTERCHECK_TEST_POSTGRES` holds the URL of a server, such as `postgres://postgres@127.0.0.1:5432/postgres`, whose
//! user may create databases.

mod accounts;
mod erasure;
mod golden;
mod groups;
mod judging;
mod migration;
mod notices;
pub mod place;
mod postgres;
mod promises;
mod retention;
mod reviewing;
mod sinks;
mod undoing;

use aftercheck::{
    domain::{Call, Claim, ClaimLabel, DeadClass, DeadLetter, Doubt, Evaluation},
    evaluators::{
        nli::{calibration::Scale, evidence::WindowConfig},
        rules::Rules,
    },
    pipeline::{
        cascade::{Cascade, Judged},
        decode::decode,
    },
    redaction::Redactor,
    store::{Burial, CallKey, Delivered, Kept, Record, Undelivered},
};
use bytes::Bytes;
use uuid::Uuid;

use super::service::call as message;

/// Runs each check on both stores.
macro_rules! on_both {
    ($($check:ident)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                crate::store::place::on_sqlite(super::$check).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                crate::store::place::on_postgres(super::$check).await;
            })+
        }
    };
}
pub(crate) use on_both;

/// A call whose answer is this.
fn call(answer: &str) -> Call {
    numbered(1, answer)
}

/// One of several calls.
fn numbered(number: usize, answer: &str) -> Call {
    let mut message = message(number);
    message["tokens_in"] = 1.into();
    message["content"]["answer"] = answer.into();
    decode(message.to_string().as_bytes(), &Redactor::shipped()).unwrap().call
}

/// A claim with this doubt.
fn claim(doubt: Option<Doubt>) -> Claim {
    Claim {
        start: 0,
        end: 4,
        entailment: 0.5,
        neutral: 0.25,
        contradiction: 0.25,
        chunk_id: "chk_0".into(),
        chunk_start: 1,
        chunk_end: 9,
        label: ClaimLabel::Unsure,
        doubt,
    }
}

/// What is kept of a call: all of it.
fn kept(call: &Call) -> Kept {
    let user_key = call.metadata.get("user_id").and_then(|user| user.as_str()).map(str::to_owned);
    let body = serde_json::to_string(call).unwrap();
    Kept { body, body_digest: CallKey::of(call).unwrap().body_digest, user_key, sealed: None }
}

/// The record of a call, judged by rules alone, under this evaluator version.
async fn record(call: &Call, version: &str) -> Record {
    let (nli, scale) = (WindowConfig::default(), Scale::default());
    let cascade = Cascade::new(Rules::shipped().unwrap(), None, nli, scale, 0.01);
    let Judged { evaluation, review, .. } = cascade.judge(&call.clone().into()).await.unwrap();
    let evaluation_id = aftercheck::store::evaluation_id(call, version);
    let claims = [None, Some(Doubt::Language), Some(Doubt::Short)].map(claim).to_vec();
    let evaluation = Evaluation { evaluation_id, evaluator_version: version.into(), claims, ..evaluation };
    Record {
        kept: kept(call),
        payload_digest: "digest".into(),
        source: "test",
        evaluation,
        review,
        sinks: vec!["one".into(), "two".into()],
        notices: Vec::new(),
    }
}

/// Records of several calls, which differ in nothing but their numbers.
pub async fn records(numbers: std::ops::Range<usize>) -> Vec<Record> {
    let first = record(&call("Yes."), "v1").await;
    let one = |number| {
        let call = numbered(number, "Yes.");
        let id = aftercheck::store::evaluation_id(&call, "v1");
        let request_id = call.request_id.clone();
        let evaluation = Evaluation { evaluation_id: id, request_id, ..first.evaluation.clone() };
        let payload_digest = format!("digest {number}");
        Record { kept: kept(&call), evaluation, payload_digest, ..first.clone() }
    };
    numbers.map(one).collect()
}

/// A row that a sink took and said nothing.
fn delivered(delivery_id: Uuid) -> Delivered {
    Delivered { delivery_id, receipt: None }
}

/// A row that an attempt failed on.
fn undelivered(delivery_id: Uuid, after_ms: Option<i64>, error: &str) -> Undelivered {
    Undelivered { delivery_id, after_ms, is_attempt: true, error: error.to_owned() }
}

/// A dead letter of this class.
fn burial(class: DeadClass) -> Burial {
    let letter = DeadLetter {
        class,
        pointer: String::new(),
        detail: "d".into(),
        remedy: "r".into(),
        tenant_id: None,
        request_id: Some("r1".into()),
    };
    let payload_digest = aftercheck::domain::id::sha256_hex(b"payload");
    let payload = Bytes::from_static(b"payload");
    Burial { payload, payload_digest, user_key: None, letter, attempts: 5, source: "test" }
}
