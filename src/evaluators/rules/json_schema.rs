//! Kind `json_schema`: the answer, or a JSON block in it, satisfies a schema.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use super::blocks;
use super::error::BadOption;
use super::references;
use super::{Finding, Rule};
use crate::domain::Call;

/// Largest schema that a call may bring, in bytes of its JSON.
const MAX_CALL_SCHEMA_BYTES: usize = 16_384;
/// Most comparisons of a value of the answer with a value of a schema that a call brings: some 0.1 s.
const MAX_COMPARISONS: usize = 5_000_000;
/// Largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Where the JSON stands.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The whole answer.
    #[default]
    Answer,
    /// See [`blocks::json`].
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
    /// The answer's JSON.
    fn json(&self, answer: &str) -> Option<Value> {
        match self.place {
            Place::Answer => serde_json::from_str(answer.trim()).ok(),
            Place::Block => blocks::json(answer),
        }
    }

    /// Checks the answer with a schema that the call brings, where that is bounded.
    fn check_with(&self, schema: &Value, answer: &str) -> Finding {
        if schema.to_string().len() > MAX_CALL_SCHEMA_BYTES {
            return Finding::error("the call's schema is too large");
        }
        let Some(size) = references::unfolded_size(schema) else {
            return Finding::error(
                "the call's schema refers outside of itself, back to itself, or too often",
            );
        };
        let Ok(compiled) = compile(schema) else {
            return Finding::error("the call's schema is no valid JSON Schema");
        };
        let Some(value) = self.json(answer) else { return no_json() };
        let pairs =
            if references::asks_for_unique_items(schema) { references::item_pairs(&value) } else { 0 };
        let comparisons = references::size(&value).saturating_mul(size).saturating_add(pairs);
        if comparisons > MAX_COMPARISONS {
            return Finding::error(format!(
                "the call's schema takes {comparisons} comparisons on this answer, more than {MAX_COMPARISONS}"
            ));
        }
        validate(&value, &compiled)
    }
}

/// What an answer without JSON comes to.
fn no_json() -> Finding {
    Finding::fail("no JSON", Vec::new())
}

/// Checks JSON with a schema.
fn validate(value: &Value, schema: &Validator) -> Finding {
    match schema.validate(value) {
        Ok(()) => Finding::pass(),
        Err(e) => {
            let keyword: String = e.schema_path().to_string().chars().take(200).collect();
            Finding::fail(format!("breaks {keyword} of the schema"), Vec::new())
        }
    }
}

impl Rule for JsonSchema {
    fn check(&self, call: &Call) -> Finding {
        let answer = call.content.answer.as_str();
        let schema = match (&self.own, &call.content.output_schema) {
            (None, None | Some(Value::Null)) => return Finding::not_applicable("no schema"),
            _ if call.error_class.is_some() => {
                return Finding::not_applicable("the call ended in a typed error");
            }
            _ if answer.trim().is_empty() && !call.tool_calls.is_empty() => {
                return Finding::not_applicable("a turn of tool calls");
            }
            (Some(own), _) => own,
            (None, Some(Value::String(name))) => match self.named.get(name) {
                Some(schema) => schema,
                None => return Finding::error("the call names a schema that the pack does not have"),
            },
            (None, Some(schema)) => return self.check_with(schema, answer),
        };
        self.json(answer).map_or_else(no_json, |value| validate(&value, schema))
    }
}
