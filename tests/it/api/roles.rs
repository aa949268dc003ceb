//! Every route for every role, and for nobody.

use serde_json::Value;

use super::{super::doors, Scene, filled, operations};

const ID: &str = "00000000-0000-4000-8000-000000000000";
/// What stands in the paths: nothing that is there.
const NOTHING: [(&str, &str); 8] = [
    ("tenant", "acme"),
    ("request_id", "never-came"),
    ("review_id", ID),
    ("golden_id", ID),
    ("dead_id", ID),
    ("name", "no-sink"),
    ("person", "nobody"),
    ("prefix", "ack_00000000"),
];

/// Method, path, the least role that may, and what it gets for a request without a body. `any`: whoever is in.
const ROUTES: [(&str, &str, &str, u16); 36] = [
    ("POST", "/v1/calls", "ingest", 415),
    ("GET", "/v1/evaluations", "read", 200),
    ("GET", "/v1/evaluations/{tenant}/{request_id}", "read", 404),
    ("GET", "/v1/why/{tenant}/{request_id}", "read", 404),
    ("GET", "/v1/report", "read", 200),
    ("GET", "/v1/overview", "read", 200),
    ("GET", "/v1/reviews", "review", 200),
    ("POST", "/v1/reviews", "review", 415),
    ("POST", "/v1/reviews/next", "review", 0),
    ("POST", "/v1/reviews/undo", "review", 404),
    ("GET", "/v1/reviews/{review_id}", "review", 404),
    ("POST", "/v1/reviews/{review_id}/label", "review", 415),
    ("POST", "/v1/reviews/{review_id}/skip", "review", 415),
    ("GET", "/v1/golden", "read", 200),
    ("POST", "/v1/golden", "review", 415),
    ("GET", "/v1/golden/datasets", "read", 200),
    ("GET", "/v1/golden/export", "read", 404),
    ("GET", "/v1/golden/{golden_id}", "read", 404),
    ("PATCH", "/v1/golden/{golden_id}", "review", 415),
    ("DELETE", "/v1/golden/{golden_id}", "admin", 404),
    ("GET", "/v1/dead", "read", 200),
    ("GET", "/v1/dead/{dead_id}", "read", 404),
    ("DELETE", "/v1/dead/{dead_id}", "admin", 404),
    ("POST", "/v1/dead/{dead_id}/requeue", "admin", 404),
    ("GET", "/v1/sinks", "read", 200),
    ("POST", "/v1/sinks/{name}/pause", "admin", 404),
    ("POST", "/v1/sinks/{name}/resume", "admin", 404),
    ("GET", "/v1/people", "admin", 200),
    ("POST", "/v1/people", "admin", 415),
    ("PATCH", "/v1/people/{person}", "admin", 415),
    ("GET", "/v1/keys", "admin", 200),
    ("POST", "/v1/keys", "admin", 415),
    ("DELETE", "/v1/keys/{prefix}", "admin", 404),
    ("GET", "/v1/audit", "admin", 200),
    ("POST", "/v1/feedback", "ingest", 415),
    ("GET", "/v1/openapi.json", "any", 200),
];

/// Whether somebody with one role may do what needs another.
fn may(role: &str, needed: &str) -> bool {
    let rank = |role: &str| ["read", "review", "admin"].iter().position(|one| *one == role);
    match needed {
        "any" => true,
        "ingest" => matches!(role, "ingest" | "admin"),
        needed => rank(role) >= rank(needed) && rank(role).is_some(),
    }
}

#[test]
fn every_route_is_for_whom_the_table_says() {
    let mut told = operations();
    let mut known: Vec<(String, String)> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    told.sort();
    known.sort();
    assert_eq!(told, known, "the document has other routes than this table");
    let document = aftercheck::http::openapi();
    let scene = Scene::new("");
    let keys =
        ["ingest", "read", "review", "admin"].map(|role| (role, doors::key(&scene.service, role, &[])));
    for (method, path, needed, expected) in ROUTES {
        let operation = &document["paths"][path][method.to_lowercase()];
        assert_eq!(operation["x-role"], needed, "{method} {path}");
        let place = filled(path, &NOTHING);
        assert_eq!(scene.running.request(method, &place, &[], b"").0, 401, "{method} {path} for nobody");
        for (role, key) in &keys {
            let (status, body) = scene.ask(key, method, &place, &Value::Null);
            let what = format!("{method} {path} for {role}: {status} {body}");
            match may(role, needed) {
                // Whether an item waits yet is for the worker to say.
                true if expected == 0 => assert!(matches!(status, 200 | 204), "{what}"),
                true => assert_eq!(status, expected, "{what}"),
                false => {
                    assert_eq!(status, 403, "{what}");
                    assert!(body["error"].as_str().unwrap().contains(&format!("role {needed}")), "{what}");
                }
            }
        }
    }
}

#[test]
fn what_changes_something_is_refused_to_pages_of_other_sites() {
    let scene = Scene::new("");
    let key = doors::bearer(&scene.admin);
    for (method, path, ..) in ROUTES.iter().filter(|(method, ..)| *method != "GET") {
        let place = filled(path, &NOTHING);
        for foreign in ["origin: https://evil.example", "sec-fetch-site: cross-site"] {
            // Calls and feedback are taken from no browser at all, and a browser cannot leave out its origin.
            let headers = match *path {
                "/v1/calls" => [key.as_str(), foreign, "origin: https://evil.example"],
                _ => [key.as_str(), foreign, doors::JSON],
            };
            let (status, body) = scene.running.request(method, &place, &headers, b"{}");
            assert!(status == 403 && body.starts_with("{\"error\":"), "{method} {path}: {status} {body}");
        }
    }
}
