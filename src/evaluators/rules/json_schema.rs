//! Kind `json_schema`: the answer, or the JSON block inside it, satisfies a schema.

use std::collections::BTreeMap;

use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde_json::Value;

use super::{Finding, Rule};
use crate::domain::Call;

/// Largest schema that a call may bring, in bytes of its JSON.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;

/// Options of `json_schema`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Name under `[schemas]` of the pack; absent: the call's own `output_schema`.
    schema: Option<String>,
    /// `answer`: the whole answer is JSON; `block`: a fenced block or the outermost braces of it.
    #[serde(default)]
    place: Place,
}

/// Where the JSON stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    #[default]
    Answer,
    Block,
}

/// A compiled rule.
pub(super) struct JsonSchema {
    own: Option<Validator>,
    named: BTreeMap<String, Validator>,
    place: Place,
}

impl JsonSchema {
    /// Compiles the pack's schemas.
    pub fn new(options: &Options, schemas: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for (name, text) in schemas {
            let schema: Value = serde_json::from_str(text).map_err(|error| format!("[schemas] {name}: {error}"))?;
            named.insert(name.clone(), compile(&schema).map_err(|error| format!("[schemas] {name}: {error}"))?);
        }
        let own = match &options.schema {
            Some(name) => Some(named.remove(name).ok_or_else(|| format!("schema {name:?} is not under [schemas]"))?),
            None => None,
        };
        Ok(Self { own, named, place: options.place })
    }

    /// The finding of one validator.
    fn judge(&self, validator: &Validator, call: &Call) -> Finding {
        let text = match self.place {
            Place::Answer => call.content.answer.trim(),
            Place::Block => block(&call.content.answer),
        };
        match serde_json::from_str::<Value>(text) {
            Err(error) => Finding::fail(format!("not JSON at line {} column {}", error.line(), error.column()), Vec::new()),
            Ok(value) => match validator.validate(&value) {
                Ok(()) => Finding::pass(),
                Err(error) => Finding::fail(
                    format!("{}: {}", error.instance_path(), error.masked_with("the value")),
                    Vec::new(),
                ),
            },
        }
    }
}

impl Rule for JsonSchema {
    fn check(&self, call: &Call) -> Finding {
        if let Some(own) = &self.own {
            return self.judge(own, call);
        }
        match &call.content.output_schema {
            None => Finding::not_applicable(),
            _ if call.error_class.is_some() => Finding::not_applicable(),
            Some(Value::String(name)) => match self.named.get(name) {
                Some(validator) => self.judge(validator, call),
                None => Finding { outcome: crate::domain::RuleOutcome::Error, detail: "output_schema names a schema that no pack holds".into(), spans: Vec::new() },
            },
            Some(schema) if schema.to_string().len() > MAX_SCHEMA_BYTES => Finding {
                outcome: crate::domain::RuleOutcome::Error,
                detail: "output_schema is larger than 64 kB".into(),
                spans: Vec::new(),
            },
            Some(schema) => match compile(schema) {
                Ok(validator) => self.judge(&validator, call),
                Err(_) => Finding { outcome: crate::domain::RuleOutcome::Error, detail: "output_schema is not a usable schema".into(), spans: Vec::new() },
            },
        }
    }
}

/// Compiles a schema: references stay inside it, patterns run in linear time.
fn compile(schema: &Value) -> Result<Validator, String> {
    if has_outside_reference(schema) {
        return Err("$ref leads outside the schema; put the definition into $defs".into());
    }
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string())
}

/// Whether any `$ref` names another document.
fn has_outside_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let outside = matches!(key.as_str(), "$ref" | "$dynamicRef")
                && value.as_str().is_some_and(|target| !target.starts_with('#'));
            outside || has_outside_reference(value)
        }),
        Value::Array(items) => items.iter().any(has_outside_reference),
        _ => false,
    }
}

/// The JSON inside an answer: a fenced block, else from the first opening to the last closing bracket.
fn block(answer: &str) -> &str {
    if let Some((_, rest)) = answer.split_once("```") {
        let body = rest.split_once('\n').map_or(rest, |(_, body)| body);
        return body.split("```").next().unwrap_or(body).trim();
    }
    match (answer.find(['{', '[']), answer.rfind(['}', ']'])) {
        (Some(start), Some(end)) if start < end => &answer[start..=end],
        _ => answer.trim(),
    }
}
