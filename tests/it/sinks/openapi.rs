//! Requests against a backend's official OpenAPI document, where it is at hand: `AFTERCHECK_TEST_CONTRACTS` names the folder with
//! the documents, which are not ours to ship; `../shared/contracts/openapi` beside the repository is looked at without it.

use std::{collections::HashMap, fs, path::PathBuf, sync::Mutex};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// An OpenAPI 3.0 document.
pub struct Document {
    paths: Map<String, Value>,
    schemas: Value,
    validators: Mutex<HashMap<String, Validator>>,
}

/// The document of this name; none, with a word on it, where it is not at hand.
pub fn document(name: &str) -> Option<Document> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts/openapi");
    let folder = std::env::var_os("AFTERCHECK_TEST_CONTRACTS").map_or_else(beside, PathBuf::from);
    let Ok(text) = fs::read_to_string(folder.join(name)) else {
        println!("skipped: requests are not held to {name}, which is not in {}", folder.display());
        return None;
    };
    // One example stands for all the others in some documents.
    let options =
        serde_saphyr::options! { budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false } };
    let value = serde_saphyr::from_str_with_options(&text, options);
    Some(Document::of(value.unwrap_or_else(|error| panic!("{name}: {error}"))))
}

impl Document {
    fn of(mut document: Value) -> Self {
        let paths = document["paths"].as_object().unwrap().clone();
        let mut schemas = document["components"]["schemas"].take();
        plain(&mut schemas);
        Self { paths, schemas, validators: Mutex::default() }
    }

    /// What is wrong with a request; none where the document has it like this. `path` is without query.
    pub fn wrong(&self, method: &str, path: &str, body: Option<&Value>) -> Option<String> {
        let operations = self.paths.iter().find(|(template, _)| matches(template, path))?.1;
        let Some(operation) = operations.get(method.to_lowercase()) else {
            return Some(format!("{method} {path}: no such operation"));
        };
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        match (schema, body) {
            (Value::Null, None) => None,
            (Value::Null, Some(_)) => Some(format!("{method} {path}: takes no body")),
            (_, None) => Some(format!("{method} {path}: needs a body")),
            (schema, Some(body)) => {
                self.misfit(schema, body).map(|error| format!("{method} {path}: {error}\n{body}"))
            }
        }
    }

    /// Whether the document has the path.
    pub fn knows(&self, path: &str) -> bool {
        self.paths.keys().any(|template| matches(template, path))
    }

    /// What is wrong with a value by the schema of this name.
    pub fn misfit_of(&self, name: &str, value: &Value) -> Option<String> {
        self.misfit(&json!({"$ref": format!("#/components/schemas/{name}")}), value)
    }

    fn misfit(&self, schema: &Value, value: &Value) -> Option<String> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let mut schema = schema.clone();
            plain(&mut schema);
            let whole = json!({"allOf": [schema], "components": {"schemas": self.schemas}});
            let options = jsonschema::options().with_draft(Draft::Draft4).should_validate_formats(true);
            options.build(&whole).unwrap()
        });
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

/// Whether a path is one of a template, such as `/a/{id}`.
fn matches(template: &str, path: &str) -> bool {
    let (parts, said): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    parts.len() == said.len()
        && parts.iter().zip(said).all(|(part, said)| part.starts_with('{') || *part == said)
}

/// OpenAPI 3.0 says `nullable` where JSON schema says that a value may also be null.
fn plain(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(plain),
        Value::Object(object) => {
            object.values_mut().for_each(plain);
            if object.remove("nullable") == Some(Value::Bool(true)) {
                let inner = Value::Object(std::mem::take(object));
                *schema = json!({"anyOf": [inner, {"type": "null"}]});
            }
        }
        _ => {}
    }
}

#[test]
fn a_request_is_held_to_the_document() {
    let document = Document::of(json!({
        "paths": {"/a/{id}": {"post": {"requestBody": {"content": {"application/json": {"schema":
            {"$ref": "#/components/schemas/A"}}}}}, "get": {}}},
        "components": {"schemas": {
            "A": {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"},
                "b": {"$ref": "#/components/schemas/B", "nullable": true}}},
            "B": {"type": "string", "enum": ["x"]},
        }},
    }));
    let wrong = |body: Value| document.wrong("POST", "/a/1", Some(&body));
    assert_eq!(wrong(json!({"n": 1.5})), None);
    assert_eq!(wrong(json!({"n": 1, "b": null})), None);
    assert_eq!(wrong(json!({"n": 1, "b": "x"})), None);
    for bad in [json!({}), json!({"n": "1"}), json!({"n": 1, "b": "y"})] {
        assert!(wrong(bad.clone()).is_some(), "{bad}");
    }
    assert!(document.wrong("POST", "/a/1", None).is_some());
    assert!(document.wrong("PUT", "/a/1", None).is_some());
    assert!(document.wrong("GET", "/a/1", Some(&json!({}))).is_some());
    assert_eq!(document.wrong("GET", "/a/1", None), None);
    assert!(!document.knows("/b"));
}
