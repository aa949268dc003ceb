//! What is not of somebody's tenants or features is not there for them, on whatever route they ask.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::{super::doors, Scene, filled, operations};

#[test]
fn nothing_of_another_tenant_is_seen_on_any_route() {
    let scene = Scene::new("");
    let (golden, dead) = (scene.golden_id(), scene.dead_id());
    let review =
        scene.get("/v1/reviews?state=closed")["reviews"][0]["review_id"].as_str().unwrap().to_owned();
    let known = [
        ("tenant", "acme"),
        ("request_id", "kill-1"),
        ("review_id", &review),
        ("golden_id", &golden),
        ("dead_id", &dead),
        ("name", "archive"),
    ];
    let of = |tenant: &str| doors::key(&scene.service, "admin", &["--tenant", tenant]);
    let (own, other) = (of("acme"), of("globex"));
    let reads =
        operations().into_iter().filter(|(method, path)| method == "GET" && !path.ends_with("openapi.json"));
    let mut seen = 0;
    for (method, path) in reads {
        let place = filled(&path, &known);
        let (status, body) = scene.ask(&other, &method, &place, &Value::Null);
        let text = body.to_string();
        match path.as_str() {
            // Totals are over all tenants: who is held to some gets none.
            "/v1/report" | "/v1/sinks" | "/v1/people" | "/v1/keys" | "/v1/audit" => {
                assert_eq!(status, 403, "{path}: {text}");
                assert_eq!(scene.ask(&own, &method, &place, &Value::Null).0, 403, "{path}");
                assert_eq!(scene.admin(&method, &place, &Value::Null).0, 200, "{path}");
            }
            "/v1/reviews"
            | "/v1/golden"
            | "/v1/golden/datasets"
            | "/v1/dead"
            | "/v1/overview"
            | "/v1/evaluations" => {
                assert!(status == 200 && !text.contains("kill-") && !text.contains("acme"), "{path}: {text}");
            }
            _ => assert!(status == 404 && !text.contains("kill-"), "{path}: {status} {text}"),
        }
        if !matches!(path.as_str(), "/v1/report" | "/v1/sinks" | "/v1/people" | "/v1/keys" | "/v1/audit") {
            assert_eq!(scene.ask(&own, &method, &place, &Value::Null).0, 200, "{path} for its own tenant");
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn nothing_of_another_tenant_is_changed_on_any_route() {
    let scene = Scene::new("");
    let (golden, dead) = (scene.golden_id(), scene.dead_id());
    let review =
        scene.get("/v1/reviews?state=closed")["reviews"][0]["review_id"].as_str().unwrap().to_owned();
    let other = doors::key(&scene.service, "admin", &["--tenant", "globex"]);
    let reviewed = format!("/v1/reviews/{review}");
    for (method, path, body, expected) in [
        ("POST", "/v1/reviews/next", Value::Null, 204),
        ("POST", "/v1/reviews/undo", Value::Null, 404),
        ("POST", "/v1/reviews", json!({"tenant_id": "acme", "request_id": "kill-1"}), 404),
        ("POST", &format!("{reviewed}/label"), json!({"said": "pass"}), 404),
        ("POST", &format!("{reviewed}/skip"), json!({}), 404),
        ("POST", "/v1/golden", json!({"of": {"review_id": review}}), 404),
        ("POST", "/v1/golden", json!({"of": {"call": {"tenant_id": "acme", "request_id": "kill-1"}}}), 404),
        ("PATCH", &format!("/v1/golden/{golden}"), json!({"expected": "x"}), 404),
        ("DELETE", &format!("/v1/golden/{golden}"), Value::Null, 404),
        ("DELETE", &format!("/v1/dead/{dead}"), Value::Null, 404),
        ("POST", &format!("/v1/dead/{dead}/requeue"), Value::Null, 404),
        ("POST", "/v1/sinks/archive/pause", Value::Null, 403),
        ("POST", "/v1/sinks/archive/resume", Value::Null, 403),
        ("POST", "/v1/people", json!({"name": "mallory", "role": "admin"}), 403),
        ("PATCH", "/v1/people/ana", json!({"tenants": null}), 403),
        ("POST", "/v1/keys", json!({"name": "mallory", "role": "admin"}), 403),
        ("DELETE", "/v1/keys/ack_00000000", Value::Null, 403),
        ("POST", "/v1/feedback", json!({"tenant_id": "acme", "request_id": "kill-1", "thumbs": "down"}), 404),
    ] {
        let (status, told) = scene.ask(&other, method, path, &body);
        assert_eq!(status, expected, "{method} {path}: {told}");
    }
    assert_eq!(scene.get(&format!("/v1/golden/{golden}"))["history"].as_array().unwrap().len(), 1);
    assert_eq!(scene.get(&format!("/v1/dead/{dead}"))["kind"], "letter");
}

/// Asks as somebody who reviews one feature.
fn ask_as_reviewer_of(scene: &Scene, feature: &str, path: &str) -> (u16, Value) {
    let name = format!("reviewer-of-{feature}");
    let arguments = ["people", "add", &name, "--role", "review", "--feature", feature];
    let mut child = scene.service.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", doors::PASSWORD).unwrap();
    // A second time they are there already.
    child.wait().unwrap();
    let cookie = doors::cookie(&doors::sign_in(&scene.running, &name, doors::PASSWORD));
    let (status, body) = scene.running.request("GET", path, &[&cookie], b"");
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[test]
fn somebody_who_is_held_to_features_sees_calls_of_these() {
    let scene = Scene::new("");
    scene.review_id();
    let why = "/v1/why/acme/kill-1";
    assert_eq!(ask_as_reviewer_of(&scene, "f", why).0, 200);
    assert_eq!(ask_as_reviewer_of(&scene, "another", why).0, 404);
    assert_eq!(ask_as_reviewer_of(&scene, "another", "/v1/report").0, 403);
    assert_eq!(ask_as_reviewer_of(&scene, "another", "/v1/reviews").1["reviews"], json!([]));
    assert_eq!(ask_as_reviewer_of(&scene, "f", "/v1/reviews").1["reviews"].as_array().unwrap().len(), 1);
}

#[test]
fn a_dead_letter_has_no_feature_and_is_not_there_for_who_is_held_to_some() {
    let scene = Scene::new("");
    let dead = scene.dead_id();
    let (status, list) = ask_as_reviewer_of(&scene, "f", "/v1/dead");
    assert_eq!((status, &list["letters"]), (200, &json!([])), "{list}");
    assert_eq!(ask_as_reviewer_of(&scene, "f", &format!("/v1/dead/{dead}")).0, 404);
}
