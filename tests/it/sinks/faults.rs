//! What a fake backend does instead of answering well, one request after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use axum::{
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is answered with this status, and nothing is done.
    Says(u16),
    /// It is done, and the answer has this status.
    DoesAndSays(u16),
    /// It is done, and no answer comes.
    DoesAndIsSilent,
}

/// Faults of the requests to come; none: it is answered well.
#[derive(Debug, Default)]
pub struct Plan(VecDeque<Option<Fault>>);

impl Plan {
    /// Every second request fails in one of the ways, so many times.
    pub fn mixed(times: usize) -> Self {
        let ways = [
            Fault::DoesAndIsSilent,
            Fault::Says(503),
            Fault::DoesAndSays(502),
            Fault::Says(429),
            Fault::DoesAndSays(504),
        ];
        Self(ways.into_iter().cycle().take(times).flat_map(|fault| [Some(fault), None]).collect())
    }

    /// The same fault, so many times.
    pub fn only(fault: Fault, times: usize) -> Self {
        Self(std::iter::repeat_n(Some(fault), times).collect())
    }

    /// The fault of the next request.
    pub fn next(&mut self) -> Option<Fault> {
        self.0.pop_front().flatten()
    }

    /// Requests that are still to fail.
    pub fn left(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

/// Answers as the fault has it; `work` does what was asked.
pub async fn answer(fault: Option<Fault>, work: impl FnOnce() -> Response) -> Response {
    let said = |status| StatusCode::from_u16(status).unwrap().into_response();
    match fault {
        None => work(),
        Some(Fault::Says(status)) => said(status),
        Some(Fault::DoesAndSays(status)) => {
            work();
            said(status)
        }
        Some(Fault::DoesAndIsSilent) => {
            work();
            tokio::time::sleep(Duration::from_secs(60)).await;
            said(500)
        }
    }
}

/// The parts of a query.
pub fn query(uri: &Uri) -> BTreeMap<String, String> {
    let whole: reqwest::Url = format!("http://h{uri}").parse().unwrap();
    whole.query_pairs().into_owned().collect()
}
