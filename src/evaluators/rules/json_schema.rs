//! Kind `json_schema`: the answer, or a JSON block in it, satisfies a schema.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use super::error::BadOption;
use super::references;
use super::{Finding, Rule};
use crate::domain::Call;

/// Largest schema that a call may bring, in bytes of its JSON.
const MAX_CALL_SCHEMA_BYTES: usize = 16_384;
/// Largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Where the JSON stands.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The whole answer.
    #[default]
    Answer,
    /// The first fenced block, `json` ones first; the whole answer where there is none.
    Block,
}

/// Options of kind `json_schema`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonSchemaOptions {
    /// Where the JSON stands.
    #[serde(default, rename = "where")]
    place: Place,
    /// The schema as a table, as a JSON string, or the name of one of the pack's; the call's when absent.
    schema: Option<toml::Value>,
}

/// The rule of kind `json_schema`.
pub(super) struct JsonSchema {
    /// Where the JSON stands.
    place: Place,
    /// The rule's own schema.
    own: Option<Validator>,
    /// Schemas of the pack by name.
    named: HashMap<String, Validator>,
}

impl JsonSchemaOptions {
    /// The rule, with all schemas compiled.
    pub(super) fn build(self, schemas: &Table) -> Result<JsonSchema, BadOption> {
        let mut named = HashMap::new();
        for (name, schema) in schemas {
            named.insert(name.clone(), compile(&written("schemas", schema)?)?);
        }
        let own = match &self.schema {
            None => None,
            Some(toml::Value::String(name)) if schemas.contains_key(name) => named.remove(name),
            Some(schema) => Some(compile(&written("schema", schema)?)?),
        };
        Ok(JsonSchema { place: self.place, own, named })
    }
}

/// The JSON of a schema written as a table or as a JSON string.
fn written(field: &'static str, schema: &toml::Value) -> Result<Value, BadOption> {
    let bad = |e: serde_json::Error| {
        BadOption::new(
            field,
            e.to_string(),
            "write a table, a JSON string or the name of a schema of the pack",
        )
    };
    match schema {
        toml::Value::String(text) => serde_json::from_str(text).map_err(bad),
        schema => serde_json::to_value(schema).map_err(bad),
    }
}

/// A validator that never looks outside of the schema. Patterns run in linear time.
fn compile(schema: &Value) -> Result<Validator, BadOption> {
    if !references::are_local(schema) {
        let remedy = "write what it refers to under $defs";
        return Err(BadOption::new("schema", "refers to another document", remedy));
    }
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES);
    let compiled = jsonschema::options().with_pattern_options(patterns).build(schema);
    compiled.map_err(|e| BadOption::new("schema", e.to_string(), "correct the schema (JSON Schema 2020-12)"))
}

impl JsonSchema {
    /// Checks the answer's JSON with a schema.
    fn validate(&self, answer: &str, schema: &Validator) -> Finding {
        let text = match self.place {
            Place::Answer => answer,
            Place::Block => block(answer).unwrap_or(answer),
        };
        let Ok(value) = serde_json::from_str::<Value>(text.trim()) else {
            return Finding::fail("no JSON", Vec::new());
        };
        match schema.validate(&value) {
            Ok(()) => Finding::pass(),
            Err(e) => {
                let keyword: String = e.schema_path().to_string().chars().take(200).collect();
                Finding::fail(format!("breaks {keyword} of the schema"), Vec::new())
            }
        }
    }
}

impl Rule for JsonSchema {
    fn check(&self, call: &Call) -> Finding {
        let answer = call.content.answer.as_str();
        match (&self.own, &call.content.output_schema) {
            (Some(own), _) => self.validate(answer, own),
            (None, None | Some(Value::Null)) => Finding::not_applicable("no schema"),
            (None, Some(Value::String(name))) => match self.named.get(name) {
                Some(schema) => self.validate(answer, schema),
                None => Finding::error("the call names a schema that the pack does not have"),
            },
            (None, Some(schema)) => {
                if schema.to_string().len() > MAX_CALL_SCHEMA_BYTES {
                    return Finding::error("the call's schema is too large");
                }
                if !references::are_bounded(schema) {
                    return Finding::error("the call's schema refers outside of itself, or back to itself");
                }
                match compile(schema) {
                    Ok(schema) => self.validate(answer, &schema),
                    Err(_) => Finding::error("the call's schema is no valid JSON Schema"),
                }
            }
        }
    }
}

/// The text of the first block fenced as `json`, else of the first fenced block.
fn block(answer: &str) -> Option<&str> {
    let mut first = None;
    let mut fences = answer.split("```");
    fences.next();
    // Every second part stands within fences; its first line may name the language.
    while let (Some(inside), Some(_)) = (fences.next(), fences.next()) {
        let (language, body) = inside.split_once('\n').unwrap_or(("", inside));
        if language.trim().eq_ignore_ascii_case("json") {
            return Some(body);
        }
        first = first.or(Some(if language.contains(['{', '[']) { inside } else { body }));
    }
    first
}
