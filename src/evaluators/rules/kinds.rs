//! The kinds of rules: the one place that knows all of them.

use serde::Deserialize;
use toml::Table;

use super::Rule;
use super::citations::Citations;
use super::error::BadOption;
use super::json_schema::JsonSchemaOptions;
use super::numbers::NumbersGrounded;
use super::operations::{Empty, Length, ToolLoop, Truncated};
use super::personal::{PersonalData, Secrets};
use super::phrases::PhrasesOptions;
use super::refusal::RefusalOptions;
use super::urls::UrlsGrounded;

/// Options of a rule, by its `kind`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    /// See [`Empty`].
    Empty(Empty),
    /// See [`RefusalOptions`].
    Refusal(RefusalOptions),
    /// See [`Truncated`].
    Truncated(Truncated),
    /// See [`Length`].
    Length(Length),
    /// See [`ToolLoop`].
    ToolLoop(ToolLoop),
    /// See [`PhrasesOptions`].
    Phrases(PhrasesOptions),
    /// See [`Citations`].
    Citations(Citations),
    /// See [`Secrets`].
    Secrets(Secrets),
    /// See [`PersonalData`].
    PersonalData(PersonalData),
    /// See [`UrlsGrounded`].
    UrlsGrounded(UrlsGrounded),
    /// See [`NumbersGrounded`].
    NumbersGrounded(NumbersGrounded),
    /// See [`JsonSchemaOptions`].
    JsonSchema(JsonSchemaOptions),
}

impl Kind {
    /// The word used in packs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Empty(_) => "empty",
            Self::Refusal(_) => "refusal",
            Self::Truncated(_) => "truncated",
            Self::Length(_) => "length",
            Self::ToolLoop(_) => "tool_loop",
            Self::Phrases(_) => "phrases",
            Self::Citations(_) => "citations",
            Self::Secrets(_) => "secrets",
            Self::PersonalData(_) => "personal_data",
            Self::UrlsGrounded(_) => "urls_grounded",
            Self::NumbersGrounded(_) => "numbers_grounded",
            Self::JsonSchema(_) => "json_schema",
        }
    }

    /// The rule; `schemas` are those of its pack.
    pub(super) fn build(self, schemas: &Table) -> Result<Box<dyn Rule>, BadOption> {
        Ok(match self {
            Self::Empty(rule) => Box::new(rule),
            Self::Refusal(options) => Box::new(options.build()?),
            Self::Truncated(rule) => Box::new(rule.build()?),
            Self::Length(rule) => Box::new(rule.build()?),
            Self::ToolLoop(rule) => Box::new(rule.build()?),
            Self::Phrases(options) => Box::new(options.build()?),
            Self::Citations(rule) => Box::new(rule.build()?),
            Self::Secrets(rule) => Box::new(rule),
            Self::PersonalData(rule) => Box::new(rule.build()?),
            Self::UrlsGrounded(rule) => Box::new(rule.build()?),
            Self::NumbersGrounded(rule) => Box::new(rule),
            Self::JsonSchema(options) => Box::new(options.build(schemas)?),
        })
    }
}
