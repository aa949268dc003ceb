//! What can be wrong with a rule pack.

use thiserror::Error;

/// A pack that cannot be used: names the file, the rule, the field and the remedy.
#[derive(Debug, Error)]
pub enum RulesError {
    /// A pack or its directory cannot be read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Read {
        /// The file or directory.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is no TOML, or has a key that packs do not have.
    #[error("{file}: {message}; see rules/README.md for the shape of a pack")]
    Syntax {
        /// The pack.
        file: String,
        /// What the parser said.
        message: String,
    },
    /// One rule is wrong.
    #[error("{file}: rule {rule:?}, field {field:?}: {message}; {remedy}")]
    Rule {
        /// The pack.
        file: String,
        /// The rule's id within the pack, or its place.
        rule: String,
        /// The field.
        field: String,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        remedy: String,
    },
}

/// An option that no rule can be built from.
#[derive(Debug)]
pub(super) struct BadOption {
    /// The field.
    pub(super) field: &'static str,
    /// What is wrong with it.
    pub(super) message: String,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

impl BadOption {
    /// An option with what is wrong and what to do.
    pub(super) fn new(field: &'static str, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { field, message: message.into(), remedy }
    }

    /// The same with the file and the rule it stands in.
    pub(super) fn within(self, file: &str, rule: &str) -> RulesError {
        RulesError::Rule {
            file: file.into(),
            rule: rule.into(),
            field: self.field.into(),
            message: self.message,
            remedy: self.remedy.into(),
        }
    }
}

impl RulesError {
    /// Two rules have one id.
    pub(super) fn duplicate(file: &str, rule: &str) -> Self {
        BadOption::new("id", "is taken by another rule", "give every rule its own id").within(file, rule)
    }

    /// What serde refused about one rule; its message names the field in backticks.
    pub(super) fn refused(file: &str, rule: &str, error: &toml::de::Error) -> Self {
        let message = error.message().to_owned();
        let field = message.split('`').nth(1).unwrap_or("kind").to_owned();
        let remedy = "see the options of this kind in rules/README.md".into();
        Self::Rule { file: file.into(), rule: rule.into(), field, message, remedy }
    }
}
