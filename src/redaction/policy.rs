//! What becomes of a value: by its kind, and by environment and tenant of the call.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamesConfig, RecogniserConfig};

/// `[redaction]`: what is looked for in every call, and what becomes of it before anything is stored or sent.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactionConfig {
    /// What becomes of kinds that `kinds` does not name.
    pub treatment: Treatment,
    /// What becomes of a kind, by its name: `card`, `ssn`, `iban`, `email`, `phone`, `ipv4`, `ipv6`, `key`,
    /// `url_secret`, or one that `recognisers` or `names` adds.
    pub kinds: BTreeMap<String, Treatment>,
    /// Other treatments for an environment, a tenant, or one in the other, and for a destination. The first that fits a call
    /// and names a kind counts.
    pub exceptions: Vec<Exception>,
    /// File with the key of pseudonyms, 32 bytes at least. Who has it can tell which value a pseudonym stands for by
    /// trying; another key makes other pseudonyms.
    pub key_file: Option<PathBuf>,
    /// Field of `metadata` with the producer's name for the customer, by which `aftercheck erase --user` finds calls. What is
    /// personal in it becomes a pseudonym, as in ids.
    pub user_field: String,
    /// What is looked for beside the shipped kinds.
    pub recognisers: RecogniserConfig,
    /// Who is asked for names of people and places.
    pub names: NamesConfig,
    /// Texts that `aftercheck scan` looks for beside cards and social security numbers: values that were planted to see
    /// whether they come through.
    pub canaries: Vec<String>,
    /// Hours between two scans by running services, all of them together; 0: none.
    pub scan_hours: u64,
}

impl Default for RedactionConfig {
    fn default() -> Self {
        Self {
            treatment: Treatment::Mask,
            kinds: BTreeMap::new(),
            exceptions: Vec::new(),
            key_file: None,
            user_field: "user_id".to_owned(),
            recognisers: RecogniserConfig::default(),
            names: NamesConfig::default(),
            canaries: Vec::new(),
            scan_hours: 168,
        }
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// `<CARD>`, and `<CARD_2>` for another one in the same call: nothing of it is left but its kind.
    #[default]
    Mask,
    /// `<CARD:a123456789abcdef>`: the same for the same value in every call, so that a customer can be followed.
    Pseudonym,
    /// Nothing is left.
    Drop,
    /// It stays as it is.
    Keep,
}

/// Treatments of some calls.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exception {
    /// Calls of this environment; absent: of all.
    pub environment: Option<String>,
    /// Calls of this tenant; absent: of all.
    pub tenant_id: Option<String>,
    /// Only what is sent to the sink of this name, and in any environment: of what is kept something more is taken out on the
    /// way. Absent: what is kept.
    pub destination: Option<String>,
    /// What becomes of a kind, by its name.
    pub kinds: BTreeMap<String, Treatment>,
}

impl RedactionConfig {
    /// Whether anything is replaced by a pseudonym.
    pub(super) fn needs_key(&self) -> bool {
        let treatments = self.exceptions.iter().flat_map(|exception| exception.kinds.values());
        treatments.chain(self.kinds.values()).chain([&self.treatment]).any(|one| *one == Treatment::Pseudonym)
    }

    /// Names of kinds that are given a treatment.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let exceptions = self.exceptions.iter().flat_map(|exception| exception.kinds.keys());
        exceptions.chain(self.kinds.keys()).map(String::as_str)
    }

    /// Whether an exception for a destination gives a kind a treatment.
    pub(super) fn is_sent_otherwise(&self, kind: &str) -> bool {
        let sent = self.exceptions.iter().filter(|exception| exception.destination.is_some());
        sent.filter_map(|exception| exception.kinds.get(kind)).any(|treatment| *treatment != Treatment::Keep)
    }

    /// Destinations that exceptions name.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.exceptions.iter().filter_map(|exception| exception.destination.as_deref())
    }

    /// What becomes of a kind in the calls of an environment and a tenant.
    pub(super) fn treatment(
        &self,
        kind: &str,
        environment: Option<&str>,
        tenant_id: Option<&str>,
    ) -> Treatment {
        let exceptional = self
            .exceptions
            .iter()
            .filter(|one| one.destination.is_none())
            .filter(|one| fits(&one.environment, environment) && fits(&one.tenant_id, tenant_id))
            .find_map(|one| one.kinds.get(kind));
        exceptional.or_else(|| self.kinds.get(kind)).copied().unwrap_or(self.treatment)
    }

    /// What becomes of a kind on its way to a destination, where an exception says so.
    pub(super) fn treatment_sent(&self, kind: &str, destination: &str, tenant_id: &str) -> Option<Treatment> {
        self.exceptions
            .iter()
            .filter(|one| one.destination.as_deref() == Some(destination))
            .filter(|one| fits(&one.tenant_id, Some(tenant_id)))
            .find_map(|one| one.kinds.get(kind))
            .copied()
    }
}

/// Whether a value is what is wanted, or nothing is.
fn fits(wanted: &Option<String>, is: Option<&str>) -> bool {
    wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_exception_that_fits_and_names_the_kind_counts() {
        let config: RedactionConfig = serde_json::from_value(serde_json::json!({
            "treatment": "drop",
            "kinds": {"email": "mask", "card": "mask"},
            "exceptions": [
                {"tenant_id": "acme", "environment": "staging", "kinds": {"email": "keep"}},
                {"environment": "staging", "kinds": {"card": "keep"}},
                {"tenant_id": "acme", "kinds": {"email": "pseudonym"}},
            ],
        }))
        .unwrap();
        let treatment = |kind, environment, tenant| config.treatment(kind, Some(environment), Some(tenant));
        assert_eq!(treatment("email", "staging", "acme"), Treatment::Keep);
        assert_eq!(treatment("card", "staging", "acme"), Treatment::Keep);
        assert_eq!(treatment("email", "production", "acme"), Treatment::Pseudonym);
        assert_eq!(treatment("email", "production", "other"), Treatment::Mask);
        assert_eq!(treatment("phone", "production", "acme"), Treatment::Drop);
        assert_eq!(config.treatment("email", None, None), Treatment::Mask);
        assert!(config.needs_key());
        assert!(!RedactionConfig::default().needs_key());
    }
}
