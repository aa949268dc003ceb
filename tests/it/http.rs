//! HTTP: calls come in over `POST /v1/calls`, health and metrics go out, SIGTERM ends it in order.

use serde_json::Value;

use super::service::{Running, Service, call, ended, eventually};

const ONE: &str = "content-type: application/json";
const LINES: &str = "content-type: application/x-ndjson; charset=utf-8";

/// Posts a body of this content type.
fn post(running: &Running, kind: &str, body: &str) -> (u16, Value) {
    let (status, body) = running.request("POST", "/v1/calls", &[kind], body.as_bytes());
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn calls_come_in_over_http_and_are_evaluated() {
    let service = Service::new();
    let mut running = service.start(&[]);
    assert_eq!(post(&running, ONE, &format!("{:#}", call(1))), (202, serde_json::json!({"accepted": 1})));
    // The first of these is there already: it is accepted again and evaluated once.
    let lines = format!("{}\n\n{}\r\n{}\n", call(1), call(2), call(3));
    assert_eq!(post(&running, LINES, &lines).0, 202);
    eventually(|| {
        let count = service.count();
        ((count.evaluations, count.queued) == (3, 0)).then_some(())
    })
    .expect("three evaluations");
    running.signal("TERM");
    assert!(ended(&mut running.child).is_some_and(|status| status.success()), "SIGTERM must exit 0");
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_line_field_and_remedy_and_nothing_is_queued() {
    let service = Service::new();
    let running = service.start(&[]);
    let (status, body) = post(&running, LINES, &format!("{}\n{}\n{{\n", call(1), call(10)));
    assert_eq!(status, 422);
    let fault = &body["faults"][0];
    assert_eq!(
        (&fault["line"], &fault["class"], &fault["pointer"]),
        (&2.into(), &"wrong_type".into(), &"/tokens_in".into())
    );
    assert!(fault["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    assert_eq!(body["faults"][1]["line"], 3);
    assert_eq!(post(&running, ONE, "").0, 422);
    assert_eq!(post(&running, LINES, "\n \n").0, 400);
    assert_eq!(post(&running, LINES, &"{}\n".repeat(1001)).0, 400);
    assert_eq!(post(&running, "content-type: text/plain", &call(1).to_string()).0, 415);
    assert_eq!(post(&running, ONE, &" ".repeat(9 << 20)).0, 413);
    let from_a_page = [ONE, "origin: http://127.0.0.1:8080"];
    let body = call(1).to_string();
    assert_eq!(running.request("POST", "/v1/calls", &from_a_page, body.as_bytes()).0, 403);
    let count = service.count();
    assert_eq!((count.evaluations, count.dead_letters, count.queued), (0, 0, 0));
}

#[test]
fn health_is_told_and_every_metric_is_documented() {
    let service = Service::new();
    let running = service.start(&[]);
    assert_eq!(running.get("/healthz"), (200, "ok\n".into()));
    assert_eq!(running.get("/readyz"), (200, "ready\n".into()));
    assert_eq!(post(&running, ONE, &call(1).to_string()).0, 202);
    let evaluated = |text: &String| text.contains("aftercheck_evaluations_total{");
    let metrics = eventually(|| Some(running.get("/metrics").1).filter(evaluated)).unwrap();
    let mut names: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    names.sort_unstable();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} is not in the table of metrics.rs");
    }
}
