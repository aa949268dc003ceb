//! Who asks: a person or a program, and what they may see and do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of somebody, in bytes: it is part of keys.
pub const MAX_NAME_BYTES: usize = 200;

/// A name without the spaces around it; none where it cannot be one: it needs 1 to [`MAX_NAME_BYTES`] bytes without control
/// characters.
pub fn name(text: &str) -> Option<&str> {
    let name = text.trim();
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    fits.then_some(name)
}

/// What somebody may do. Review includes Read, Admin includes all; Ingest is for producers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Hand in calls and feedback, and see nothing.
    Ingest,
    /// See calls, verdicts and reports.
    Read,
    /// Label calls, too.
    Review,
    /// Everything, in the tenants that are granted.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Review, Self::Admin];

    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Review => "review",
            Self::Admin => "admin",
        }
    }

    /// The role of a word; none where there is no such role.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether it includes another. A reviewer hands in no calls: Ingest is in no role but itself and Admin.
    pub fn includes(self, needed: Self) -> bool {
        match needed {
            Self::Ingest => matches!(self, Self::Ingest | Self::Admin),
            _ => self >= needed,
        }
    }
}

/// Somebody who asks, signed in or by a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Person {
    /// Their name, which stands at their labels and in the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Tenants that were granted; none: all, an empty list: not one.
    pub tenants: Option<Vec<String>>,
    /// Features that are assigned; none: all.
    pub features: Option<Vec<String>>,
}

impl Person {
    /// Who asks where there is no sign-in, on loopback: they may do everything.
    pub fn local() -> Self {
        Self { name: "local".to_owned(), role: Role::Admin, tenants: None, features: None }
    }

    /// Whether their role includes this one.
    pub fn may(&self, role: Role) -> bool {
        self.role.includes(role)
    }

    /// Whether a tenant was granted to them. What they do not see is not there for them.
    pub fn sees(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.iter().any(|one| one == tenant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(name(" ana@example.org "), Some("ana@example.org"));
        for no_name in ["", " ", "a\u{7}na", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert_eq!(name(no_name), None, "{no_name:?}");
        }
    }

    #[test]
    fn roles_include_what_is_below_but_for_ingest() {
        let table = [
            (Role::Ingest, [true, false, false, false]),
            (Role::Read, [false, true, false, false]),
            (Role::Review, [false, true, true, false]),
            (Role::Admin, [true, true, true, true]),
        ];
        for (role, expected) in table {
            let person = Person { role, ..Person::local() };
            assert_eq!(Role::ALL.map(|needed| person.may(needed)), expected, "{role:?}");
        }
    }

    #[test]
    fn words_read_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn only_granted_tenants_are_seen() {
        let mut person = Person::local();
        assert!(person.sees("a"));
        person.tenants = Some(vec!["a".to_owned()]);
        assert!(person.sees("a") && !person.sees("b") && !person.sees(""));
        person.tenants = Some(Vec::new());
        assert!(!person.sees("a"));
    }
}
