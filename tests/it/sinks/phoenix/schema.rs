//! Requests against Phoenix's own OpenAPI document, where it is at hand: it is not ours to ship.
//! `AFTERCHECK_TEST_CONTRACTS` names the folder; `../shared/contracts/openapi` beside the repository is looked at without it.

use std::{collections::HashMap, fs, path::PathBuf, sync::Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The document.
const DOCUMENT: &str = "phoenix-openapi-20.3.0.json";

/// What requests are held to.
pub struct Schema {
    document: Value,
    /// By schema: building one reads all of the document.
    validators: Mutex<HashMap<String, Validator>>,
}

impl Schema {
    /// The document; none, with a word on it, where it is not at hand.
    pub fn read() -> Option<Self> {
        let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts/openapi");
        let folder = std::env::var_os("AFTERCHECK_TEST_CONTRACTS").map_or_else(beside, PathBuf::from);
        let Ok(text) = fs::read_to_string(folder.join(DOCUMENT)) else {
            println!("skipped: requests are not held to {DOCUMENT}, which is not in {}", folder.display());
            return None;
        };
        Some(Self { document: serde_json::from_str(&text).unwrap(), validators: Mutex::default() })
    }

    /// What is wrong with a request; none where the document has it like this.
    pub fn wrong(&self, method: &str, path: &str, query: &str, body: Option<&Value>) -> Option<String> {
        let paths = self.document["paths"].as_object().unwrap();
        let Some(operation) = paths.iter().find_map(|(template, all)| {
            fits(template, path).then(|| all.get(method.to_lowercase()).cloned()).flatten()
        }) else {
            return Some(format!("{method} {path}: no such operation"));
        };
        let known: Vec<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str())
            .collect();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap();
            if !known.contains(&name) {
                return Some(format!("{method} {path}: no parameter {name}"));
            }
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        match (schema, body) {
            (Value::Null, None) => None,
            (Value::Null, Some(_)) => Some(format!("{method} {path}: takes no body")),
            (_, None) => Some(format!("{method} {path}: needs a body")),
            (schema, Some(body)) => {
                self.misfit(schema, body).map(|error| format!("{method} {path}: {error}"))
            }
        }
    }

    fn misfit(&self, schema: &Value, body: &Value) -> Option<String> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.document["components"]});
            jsonschema::draft202012::new(&whole).unwrap()
        });
        let errors: Vec<String> =
            validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

/// Whether a path is one of a template, such as `/a/{id}`.
fn fits(template: &str, path: &str) -> bool {
    let (parts, said): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    parts.len() == said.len()
        && parts.iter().zip(said).all(|(part, said)| part.starts_with('{') || *part == said)
}

#[test]
fn requests_are_held_to_the_document() {
    let Some(schema) = Schema::read() else { return };
    let annotation =
        json!({"name": "a", "annotator_kind": "CODE", "span_id": "00f067aa0ba902b7", "identifier": "i"});
    let wrong = |body: Value| schema.wrong("POST", "/v1/span_annotations", "sync=true", Some(&body));
    assert_eq!(wrong(json!({"data": [annotation]})), None);
    for (key, bad) in [("annotator_kind", json!("MODEL")), ("span_id", Value::Null), ("identifier", json!(1))]
    {
        let mut annotation = annotation.clone();
        annotation[key] = bad;
        assert!(wrong(json!({"data": [annotation]})).is_some(), "{key}");
    }
    assert!(schema.wrong("POST", "/v1/span_annotations", "synch=true", Some(&json!({"data": []}))).is_some());
    assert!(schema.wrong("PUT", "/v1/span_annotations", "", None).is_some());
}
