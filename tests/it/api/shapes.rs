//! Whatever is wrong, the answer has the one shape of an error.

use serde_json::{Value, json};

use super::{super::doors, Scene, operations};

/// The fields of an error.
fn is_error(body: &Value) -> bool {
    let fields: Vec<&String> = body.as_object().map(|body| body.keys().collect()).unwrap_or_default();
    fields == ["error", "faults"] && body["error"].as_str().is_some_and(|error| !error.is_empty())
}

#[test]
fn whatever_is_wrong_the_error_has_one_shape() {
    let scene = Scene::new("");
    let key = doors::bearer(&scene.admin);
    let json = doors::JSON;
    let label = "/v1/reviews/00000000-0000-4000-8000-000000000000/label";
    let large = format!("{{\"said\": \"fail\", \"note\": \"{}\"}}", "x".repeat(300 << 10));
    let long = json!({"said": "fail", "note": "x".repeat(20_001)}).to_string();
    let cases: [(&str, &str, &str, &str, u16); 18] = [
        ("GET", "/v1/nothing", json, "", 404),
        ("GET", "/v1", json, "", 404),
        ("GET", "/v1/", json, "", 404),
        ("DELETE", "/v1/report", json, "", 405),
        ("PUT", "/v1/calls", json, "", 405),
        ("GET", "/v1/dead/no-id", json, "", 400),
        ("GET", "/v1/why/acme/%00", json, "", 400),
        ("GET", "/v1/why/acme/%ff", json, "", 400),
        ("GET", "/v1/dead?limit=0", json, "", 400),
        ("GET", "/v1/dead?limit=201", json, "", 400),
        ("GET", "/v1/dead?unknown=1", json, "", 400),
        ("GET", "/v1/report?since=yesterday", json, "", 400),
        ("POST", label, json, "{\"said\":", 400),
        ("POST", label, json, "{\"said\": \"perhaps\"}", 422),
        ("POST", label, json, "{\"said\": \"fail\", \"more\": 1}", 422),
        ("POST", label, json, &long, 422),
        ("POST", label, json, &large, 413),
        ("POST", label, "content-type: text/plain", "{}", 415),
    ];
    for (method, path, kind, body, expected) in cases {
        let (status, told) = scene.running.request(method, path, &[&key, kind], body.as_bytes());
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        assert!(status == expected && is_error(&told), "{method} {path}: {status} {told}");
    }
    let (_, fault) = scene.admin("POST", label, &json!({"said": "fail", "token": "no-id"}));
    assert_eq!(fault["faults"][0]["pointer"], "/token", "{fault}");
    let other = doors::answer(&scene.running, "PUT", "/v1/golden", &["host: a", &key], "").to_lowercase();
    assert!(other.contains("allow: ") && other.contains("post"), "{other}");
    assert!(other.contains("content-type: application/json"), "{other}");
}

#[test]
fn every_operation_says_what_it_is_refused_with_in_that_shape() {
    let document = aftercheck::http::openapi();
    for (method, path) in operations() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        for status in ["401", "403", "408", "421", "500", "503"] {
            let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Refusal", "{method} {path} {status}");
        }
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{method} {path}");
        let schemes: Vec<&String> = operation["security"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|one| one.as_object().unwrap().keys())
            .collect();
        assert_eq!(schemes, ["key", "session"], "{method} {path}");
    }
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!((&schemes["key"]["scheme"], &schemes["session"]["in"]), (&json!("bearer"), &json!("cookie")));
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn shapes_have_names_of_their_own() {
    let document = aftercheck::http::openapi();
    let names: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    let numbered: Vec<_> = names.iter().filter(|name| name.ends_with(|c: char| c.is_ascii_digit())).collect();
    assert!(names.len() > 50 && numbered.is_empty(), "a generated client would be told of {numbered:?}");
}
