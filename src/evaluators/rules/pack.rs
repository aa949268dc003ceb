//! A pack: one TOML file with rules and their examples.

use serde::Deserialize;
use toml::{Table, Value};

use super::error::{BadOption, RulesError};
use super::example::Example;
use super::kinds::Kind;
use super::{Entry, OnFail};

/// Longest name of a file and id of a rule together, in bytes: behind `rule.` they name a score, and LangSmith takes 180 characters.
const MAX_ID_BYTES: usize = 170;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pack {
    /// Rules in order.
    #[serde(default)]
    rule: Vec<Table>,
    /// JSON schemas by name, each a TOML table or a JSON string.
    #[serde(default)]
    schemas: Table,
}

/// What every kind has. The options of the kind stand beside it and are taken first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// Id within the pack.
    id: String,
    /// What the rule is for.
    description: String,
    /// What a failure means.
    on_fail: OnFail,
    /// Features it applies to; all when absent.
    #[serde(default)]
    features: Vec<String>,
    /// Examples that must pass.
    #[serde(default)]
    passes: Vec<Example>,
    /// Examples that must fail.
    #[serde(default)]
    fails: Vec<Example>,
}

/// Keys of [`Head`].
const HEAD_KEYS: [&str; 6] = ["id", "description", "on_fail", "features", "passes", "fails"];

/// Rules of one pack; ids get the file's stem in front.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Entry>, RulesError> {
    let syntax = |e: toml::de::Error| RulesError::Syntax { file: file.into(), message: e.to_string() };
    let pack: Pack = toml::from_str(text).map_err(syntax)?;
    let stem = file.strip_suffix(".toml").unwrap_or(file);
    let place = |i: usize, t: &Table| {
        t.get("id").and_then(Value::as_str).map_or_else(|| format!("#{}", i + 1), str::to_owned)
    };
    let numbered = pack.rule.into_iter().enumerate();
    numbered.map(|(i, table)| entry(file, stem, &place(i, &table), table, &pack.schemas)).collect()
}

/// One rule of its table.
fn entry(file: &str, stem: &str, name: &str, mut table: Table, schemas: &Table) -> Result<Entry, RulesError> {
    let mut head = Table::new();
    for key in HEAD_KEYS {
        if let Some(value) = table.remove(key) {
            head.insert(key.into(), value);
        }
    }
    let head: Head = Value::Table(head).try_into().map_err(|e| RulesError::refused(file, name, &e))?;
    let kind: Kind = Value::Table(table).try_into().map_err(|e| RulesError::refused(file, name, &e))?;
    if head.id.is_empty() || !head.id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        let remedy = "use letters, digits, _ and -";
        return Err(BadOption::new("id", "is empty or has other characters", remedy).within(file, name));
    }
    if stem.len() + head.id.len() > MAX_ID_BYTES {
        let remedy = "use a shorter one: it names a score in every backend, and some take 180 characters";
        return Err(BadOption::new("id", "is too long with the name of its file", remedy).within(file, name));
    }
    if head.description.trim().is_empty() {
        let remedy = "say in a sentence what the rule is for";
        return Err(BadOption::new("description", "is empty", remedy).within(file, name));
    }
    Ok(Entry {
        id: format!("{stem}.{}", head.id),
        kind: kind.name(),
        on_fail: head.on_fail,
        features: head.features,
        rule: kind.build(schemas).map_err(|bad| bad.within(file, name))?,
        passes: head.passes,
        fails: head.fails,
    })
}
