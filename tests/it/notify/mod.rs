//! Notices from end to end: receivers that hold messages to their contracts, and fail in the ways of the fault matrix.

mod contracts;
pub mod journey;
pub mod receiver;
mod renewal;
mod signature;

use aftercheck::domain::{Event, Message, Notice, Severity};
use uuid::Uuid;

/// The secret of the specification's example.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A notice about a call, in which strangers have written what they could.
fn notice(number: u128) -> Notice {
    Notice {
        notice_id: Uuid::from_u128(number),
        event: Event::ReviewCreated,
        severity: Severity::Warning,
        condition: None,
        resolved: false,
        occurred_at: "2026-11-20T10:15:31Z".parse().unwrap(),
        tenant_id: Some("<!channel> & co".into()),
        feature: Some("shop".into()),
        request_id: Some(format!("order-{number}")),
        evaluation_id: Some(Uuid::from_u128(number)),
        dimensions: Vec::new(),
        summary: "a call waits for a person".into(),
        details: serde_json::Map::from_iter([("reason".to_owned(), "unsure_band".into())]),
        link: Some("https://aftercheck.example/calls/acme/order-1".into()),
    }
}

/// A condition that began, or ended.
fn condition(resolved: bool) -> Notice {
    Notice {
        event: Event::SinkDead,
        severity: Severity::Error,
        condition: Some("sink.dead/langfuse".into()),
        resolved,
        tenant_id: None,
        feature: None,
        request_id: None,
        evaluation_id: None,
        ..notice(if resolved { 12 } else { 11 })
    }
}

/// A message of these.
fn message(notices: &[Notice]) -> Message {
    Message::of("r", notices.to_vec())
}
