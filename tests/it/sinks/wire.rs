//! What every HTTP sink keeps to, whatever its backend is: requests at a time, and requests a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aftercheck::sinks::wire::{Wire, WireConfig};
use axum::{Router, extract::State, routing::post};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

/// Requests that are at work, and the most that ever were.
type Counts = Arc<[AtomicUsize; 2]>;

/// A backend that takes a while for each request.
async fn served() -> (String, Counts) {
    let counts = Counts::default();
    let take = async |State(counts): State<Counts>| {
        let now = counts[0].fetch_add(1, Ordering::SeqCst) + 1;
        counts[1].fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_millis(20)).await;
        counts[0].fetch_sub(1, Ordering::SeqCst);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(take)).with_state(Arc::clone(&counts));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, counts)
}

/// Sends so many requests at once, and gives how long all of them took.
async fn sent(url: &str, more: Value, requests: usize) -> Duration {
    let mut config = json!({"url": url});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: WireConfig = serde_json::from_value(config).unwrap();
    let wire = Arc::new(Wire::new(&config, HeaderMap::new()).unwrap());
    let (begun, mut all) = (Instant::now(), JoinSet::new());
    for _ in 0..requests {
        let wire = Arc::clone(&wire);
        all.spawn(async move { wire.send(wire.request(Method::POST, "")).await.unwrap().status });
    }
    assert!(all.join_all().await.iter().all(|status| status.is_success()));
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_at_work_than_are_allowed() {
    for allowed in [1, 3] {
        let (url, counts) = served().await;
        sent(&url, json!({"concurrency": allowed}), 24).await;
        assert_eq!(counts[1].load(Ordering::SeqCst), allowed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_a_second_are_sent_than_are_allowed() {
    let (url, _) = served().await;
    let took = sent(&url, json!({"rate": 5}), 12).await;
    // Five at once, then one each fifth of a second. A slow machine takes longer; no machine may take less.
    assert!(took >= Duration::from_millis(1390), "{took:?}");
}
