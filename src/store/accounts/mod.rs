//! Who may come in: people, their sessions, keys of programs, tries to sign in, and the audit log.
//!
//! No secret is kept: of a password its Argon2id hash, of a token or a key its SHA-256. Times are given by who asks, so that
//! one clock decides when something is over. What changes who may come in and its entry in the audit log are one transaction.

mod keeping;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;

use super::StoreError;
use crate::domain::{Person, Role};

pub(super) use keeping::keep_accounts;

/// Sessions of one person at a time; the one that was seen longest ago ends for a new one.
pub const MAX_SESSIONS: i64 = 10;
/// A session that was seen less than this long ago, in milliseconds, is not written again.
pub const SEEN_MS: i64 = 60_000;
/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Account {
    /// Who they are and what they may do.
    #[serde(flatten)]
    pub person: Person,
    /// Since when they may not come in any more, in Unix milliseconds.
    pub disabled_ms: Option<i64>,
    /// Since when they are known, in Unix milliseconds.
    pub created_ms: i64,
}

/// One thing that is changed of an account. Each ends the sessions that there are.
#[derive(Debug, Clone)]
pub enum Change {
    /// What they may do.
    Role(Role),
    /// What they may see.
    Grant {
        /// Of tenants.
        tenants: Granted,
        /// Of features.
        features: Granted,
    },
    /// Hash of another password.
    Password(String),
    /// They may not come in any more.
    Disable,
    /// They may again.
    Enable,
}

impl Change {
    /// What the audit log says that was done.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Role(_) => "role_set",
            Self::Grant { .. } => "granted",
            Self::Password(_) => "password_set",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
        }
    }
}

/// What somebody may see of tenants, or of features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Granted {
    /// What they saw before.
    #[default]
    Same,
    /// All, those that are still to come included.
    All,
    /// These.
    Only(Vec<String>),
}

impl Granted {
    /// Whether it is another than before, and the list as it is then kept.
    pub(super) fn kept(&self) -> Result<(bool, Option<String>), StoreError> {
        match self {
            Self::Same => Ok((false, None)),
            Self::All => Ok((true, None)),
            Self::Only(names) => Ok((true, listed(Some(names))?)),
        }
    }
}

/// A key of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKey {
    /// The part of the secret that is shown.
    pub prefix: String,
    /// Who it stands for, and what it may do.
    #[serde(flatten)]
    pub person: Person,
    /// When it was made, in Unix milliseconds.
    pub made_ms: i64,
    /// The last day on which it was used, since 1970, UTC.
    pub used_day: Option<i64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<i64>,
}

/// How long a session lasts, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Lasting {
    /// In all.
    pub whole_ms: i64,
    /// Without a request.
    pub idle_ms: i64,
}

/// An entry of the audit log that is to be written.
#[derive(Debug, Clone)]
pub struct Entry<'e> {
    /// Who did it.
    pub who: &'e str,
    /// What they did.
    pub what: &'static str,
    /// To what.
    pub about: &'e str,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its place.
    pub entry_id: i64,
    /// Who did it.
    pub who: String,
    /// What they did.
    pub what: String,
    /// To what.
    pub about: String,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// Who may come in, and who did what.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Adds somebody with the hash of their password. False where the name is taken: nothing is changed then.
    async fn add_account(
        &self,
        person: &Person,
        password_hash: &str,
        entry: &Entry<'_>,
    ) -> Result<bool, StoreError>;

    /// Everybody, by name.
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;

    /// Somebody, and the hash of their password.
    async fn account(&self, name: &str) -> Result<Option<(Account, String)>, StoreError>;

    /// Changes an account, all or nothing, and ends its sessions; each change has its entry in the audit log. False where there is
    /// no account.
    async fn change_account(
        &self,
        name: &str,
        changes: &[Change],
        who: &str,
        at_ms: i64,
    ) -> Result<bool, StoreError>;

    /// Begins a session of somebody under the digest of its token, where the hash of their password is still this one and they may
    /// come in; false, and nothing is written, where it is not. Of more than [`MAX_SESSIONS`] the oldest end.
    async fn begin_session(
        &self,
        token_digest: &str,
        whose: (&str, &str),
        entry: &Entry<'_>,
    ) -> Result<bool, StoreError>;

    /// Whose session it is: none where it is over, or its person may not come in. Their role is that of now.
    async fn session(
        &self,
        token_digest: &str,
        lasting: Lasting,
        now_ms: i64,
    ) -> Result<Option<Person>, StoreError>;

    /// Ends a session. A repeat changes nothing.
    async fn end_session(&self, token_digest: &str) -> Result<(), StoreError>;

    /// Adds a key under the digest of its secret. False where its prefix is taken.
    async fn add_key(&self, key: &ApiKey, secret_digest: &str, entry: &Entry<'_>)
    -> Result<bool, StoreError>;

    /// All keys, those that are revoked included, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Who a key stands for, by the digest of its secret, and remembers the day: none where there is none or it is revoked.
    async fn use_key(&self, secret_digest: &str, now_ms: i64) -> Result<Option<Person>, StoreError>;

    /// Revokes a key. False where there is none, or it is revoked already.
    async fn revoke_key(&self, prefix: &str, entry: &Entry<'_>) -> Result<bool, StoreError>;

    /// Counts one more try of a subject within a window of milliseconds, this one included; returns how many there are, and when
    /// they were begun. Windows that are over are deleted.
    async fn count_try(&self, subject: &str, now_ms: i64, window_ms: i64) -> Result<(i64, i64), StoreError>;

    /// Forgets the tries of a subject.
    async fn forgive(&self, subject: &str) -> Result<(), StoreError>;

    /// Enters something in the audit log.
    async fn audit(&self, entry: &Entry<'_>) -> Result<(), StoreError>;

    /// Entries of the audit log, newest first, older than `before` when given, at most `limit`.
    async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// Columns of an account: name, role, tenants, features, when disabled, when created.
pub(super) type AccountColumns = (String, String, Option<String>, Option<String>, Option<i64>, i64);
/// Columns of a key: prefix, name, role, tenants, when made, day of use, when revoked.
pub(super) type KeyColumns = (String, String, String, Option<String>, i64, Option<i64>, Option<i64>);

/// Reads an account.
pub(super) fn account_of(columns: AccountColumns) -> Result<Account, StoreError> {
    let (name, role, tenants, features, disabled_ms, created_ms) = columns;
    let person = person_of(name, &role, tenants, features)?;
    Ok(Account { person, disabled_ms, created_ms })
}

/// Reads a key.
pub(super) fn key_of(columns: KeyColumns) -> Result<ApiKey, StoreError> {
    let (prefix, name, role, tenants, made_ms, used_day, revoked_ms) = columns;
    Ok(ApiKey { prefix, person: person_of(name, &role, tenants, None)?, made_ms, used_day, revoked_ms })
}

/// Reads who it is. A list that cannot be read is an error and never all.
fn person_of(
    name: String,
    role: &str,
    tenants: Option<String>,
    features: Option<String>,
) -> Result<Person, StoreError> {
    let unreadable = |what, detail: String| StoreError::Corrupt { what, detail };
    let list = |what, text: Option<String>| {
        let read = text.map(|text| serde_json::from_str::<Vec<String>>(&text)).transpose();
        read.map_err(|error| unreadable(what, error.to_string()))
    };
    let role = Role::parse(role).ok_or_else(|| unreadable("role", role.to_owned()))?;
    Ok(Person { name, role, tenants: list("tenants", tenants)?, features: list("features", features)? })
}

/// A list as it is kept.
pub(super) fn listed(names: Option<&Vec<String>>) -> Result<Option<String>, StoreError> {
    names.map(|names| super::json("names", names)).transpose()
}
