//! Who comes in: by password and session, by key, or by the name that a trusted proxy gives.
//!
//! What is kept of them is in [`crate::store::accounts`]; a [`Gate`] is what HTTP and the command line have of it.

pub mod password;
pub mod secret;

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use self::{
    password::{Hashing, PasswordError},
    secret::NoRandomness,
};
use crate::{
    domain::{
        Person, Role, id,
        person::{self, MAX_NAME_BYTES},
    },
    store::{
        Store, StoreError,
        accounts::{Account, ApiKey, Change, Entry, Granted, Lasting},
    },
};

/// How long a session lasts: a working day, and an hour without a request.
pub const LASTING: Lasting = Lasting { whole_ms: 12 * 3_600_000, idle_ms: 3_600_000 };
/// Window in which tries to sign in are counted, in milliseconds.
const WINDOW_MS: i64 = 15 * 60_000;
/// Tries within a window on one account.
pub const ACCOUNT_TRIES: i64 = 10;
/// Tries within a window from one address; several people may share one.
pub const ADDRESS_TRIES: i64 = 50;
/// The hash of a password that nobody has: it is checked where a name is unknown, which then takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIHVz$RdescudvJCsgt3ub+b+dWRWJTmaaJObGRdescudvJCs";

/// Why somebody does not come in, or cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The name is unknown, the password another, or the account disabled: which, is not told.
    #[error("name or password is wrong")]
    Wrong,
    /// Too many tries: whoever asks should come back after so many seconds.
    #[error("too many tries, come back in {0} s")]
    TooMany(i64),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password cannot be used or checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// A name cannot be one.
    #[error("name: need 1 to {MAX_NAME_BYTES} bytes without control characters or spaces around it")]
    Name,
}

/// What is to be changed of somebody; the default changes nothing.
#[derive(Debug, Default)]
pub struct Changes {
    /// What they may do.
    pub role: Option<Role>,
    /// Tenants that they may see.
    pub tenants: Granted,
    /// Features that they review.
    pub features: Granted,
    /// Their password.
    pub password: Option<SecretString>,
    /// Whether they are let in no more.
    pub disabled: Option<bool>,
}

/// Lets people and programs in.
pub struct Gate {
    store: Arc<dyn Store>,
    hashing: Hashing,
}

impl Gate {
    /// A gate over the accounts of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, hashing: Hashing::default() }
    }

    /// Adds somebody. False where the name is taken.
    ///
    /// # Errors
    /// [`AccessError::Name`], [`AccessError::Password`], [`AccessError::Store`].
    pub async fn add(&self, person: &Person, password: SecretString, by: &str) -> Result<bool, AccessError> {
        check_name(&person.name)?;
        let hash = self.hashing.hash(password).await?;
        let entry = Entry { who: by, what: "person_added", about: &person.name, at_ms: now_ms() };
        Ok(self.store.add_account(person, &hash, &entry).await?)
    }

    /// Gives somebody another password and ends their sessions. False where there is nobody of this name.
    ///
    /// # Errors
    /// [`AccessError::Password`], [`AccessError::Store`].
    pub async fn set_password(
        &self,
        name: &str,
        password: SecretString,
        by: &str,
    ) -> Result<bool, AccessError> {
        self.change(name, Changes { password: Some(password), ..Changes::default() }, by).await
    }

    /// Gives somebody another role and ends their sessions. False where there is nobody of this name.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn set_role(&self, name: &str, role: Role, by: &str) -> Result<bool, AccessError> {
        self.change(name, Changes { role: Some(role), ..Changes::default() }, by).await
    }

    /// Has somebody see other tenants or features and ends their sessions. False where there is nobody of this name.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn grant(
        &self,
        name: &str,
        tenants: Granted,
        features: Granted,
        by: &str,
    ) -> Result<bool, AccessError> {
        self.change(name, Changes { tenants, features, ..Changes::default() }, by).await
    }

    /// Lets somebody in no more, or again. False where there is nobody of this name.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn disable(&self, name: &str, disabled: bool, by: &str) -> Result<bool, AccessError> {
        self.change(name, Changes { disabled: Some(disabled), ..Changes::default() }, by).await
    }

    /// Makes a key for a program and returns its secret, which is nowhere else, with its prefix.
    ///
    /// # Errors
    /// [`AccessError::Name`], [`AccessError::NoRandomness`], [`AccessError::Store`].
    pub async fn make_key(&self, person: &Person, by: &str) -> Result<(String, String), AccessError> {
        check_name(&person.name)?;
        loop {
            let (secret, prefix) = secret::key()?;
            let at_ms = now_ms();
            let entry = Entry { who: by, what: "key_added", about: &prefix, at_ms };
            let key = ApiKey {
                prefix: prefix.clone(),
                person: person.clone(),
                made_ms: at_ms,
                used_day: None,
                revoked_ms: None,
            };
            // Taken once in 10^14: another is made then.
            if self.store.add_key(&key, &secret::digest(&secret), &entry).await? {
                return Ok((secret, prefix));
            }
        }
    }

    /// Revokes a key by its prefix. False where there is none that is not revoked.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn revoke_key(&self, prefix: &str, by: &str) -> Result<bool, AccessError> {
        let entry = Entry { who: by, what: "key_revoked", about: prefix, at_ms: now_ms() };
        Ok(self.store.revoke_key(prefix, &entry).await?)
    }

    /// Signs somebody in who comes from this address, and returns the token of their session. Tries are counted before the
    /// password is looked at, in the store: a restart forgives none.
    ///
    /// # Errors
    /// All of [`AccessError`] but [`AccessError::Name`].
    pub async fn sign_in(
        &self,
        name: &str,
        password: SecretString,
        from: IpAddr,
    ) -> Result<String, AccessError> {
        let at_ms = now_ms();
        let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
        let account = subject("account", name);
        for (subject, most) in
            [(&subject("address", &network(from)), ADDRESS_TRIES), (&account, ACCOUNT_TRIES)]
        {
            let (tries, since_ms) = self.store.count_try(subject, at_ms, WINDOW_MS).await?;
            if tries > most {
                return Err(AccessError::TooMany(((since_ms + WINDOW_MS - at_ms) / 1000).max(1)));
            }
        }
        // What is no name may be a password that was typed into the wrong field: the log does not have it.
        let (who, known, hash) = match self.account(name).await? {
            Some((account, hash)) => (name, account.disabled_ms.is_none(), hash),
            None => ("somebody unknown", false, NOBODY.to_owned()),
        };
        let empty = password.expose_secret().is_empty();
        let fits = self.hashing.verify(password, hash.clone()).await? && known && !empty;
        let network = network(from);
        if fits {
            let token = secret::token()?;
            let entry = Entry { who: name, what: "signed_in", about: &network, at_ms };
            // Checking takes a while, in which they may have been given another password.
            if self.store.begin_session(&secret::digest(&token), (name, &hash), &entry).await? {
                self.store.forgive(&account).await?;
                return Ok(token);
            }
        }
        let entry = Entry { who, what: "sign_in_refused", about: &network, at_ms };
        self.store.audit(&entry).await?;
        Err(AccessError::Wrong)
    }

    /// Somebody, and the hash of their password. What cannot be a name is nobody's: not every store can be asked for one.
    async fn account(&self, name: &str) -> Result<Option<(Account, String)>, AccessError> {
        match check_name(name) {
            Ok(()) => Ok(self.store.account(name).await?),
            Err(_) => Ok(None),
        }
    }

    /// Whose session a token is of.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn session(&self, token: &str) -> Result<Option<Person>, AccessError> {
        Ok(self.store.session(&secret::digest(token), LASTING, now_ms()).await?)
    }

    /// Ends the session of a token. A repeat changes nothing.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn sign_out(&self, token: &str) -> Result<(), AccessError> {
        Ok(self.store.end_session(&secret::digest(token)).await?)
    }

    /// Who a key stands for.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn key(&self, secret: &str) -> Result<Option<Person>, AccessError> {
        Ok(self.store.use_key(&secret::digest(secret), now_ms()).await?)
    }

    /// Somebody whom a trusted proxy names: they must have an account that is not disabled.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn named(&self, name: &str) -> Result<Option<Person>, AccessError> {
        let account = self.account(name).await?;
        Ok(account.filter(|(account, _)| account.disabled_ms.is_none()).map(|(account, _)| account.person))
    }

    /// Changes somebody, all or nothing, and ends their sessions. False where there is nobody of this name. Nothing is done where
    /// nothing is to be changed.
    ///
    /// # Errors
    /// [`AccessError::Password`], [`AccessError::Store`].
    pub async fn change(&self, name: &str, changes: Changes, by: &str) -> Result<bool, AccessError> {
        let Changes { role, tenants, features, password, disabled } = changes;
        let mut all: Vec<Change> = role.map(Change::Role).into_iter().collect();
        if (&tenants, &features) != (&Granted::Same, &Granted::Same) {
            all.push(Change::Grant { tenants, features });
        }
        if let Some(password) = password {
            all.push(Change::Password(self.hashing.hash(password).await?));
        }
        all.extend(disabled.map(|disabled| if disabled { Change::Disable } else { Change::Enable }));
        match all.is_empty() {
            true => Ok(self.account(name).await?.is_some()),
            false => Ok(self.store.change_account(name, &all, by, now_ms()).await?),
        }
    }
}

/// Refuses a name that could not be told from another on paper.
fn check_name(name: &str) -> Result<(), AccessError> {
    if person::name(name) == Some(name) { Ok(()) } else { Err(AccessError::Name) }
}

/// What tries are counted under: a digest, because a name may be a password that was typed into the wrong field.
fn subject(kind: &str, what: &str) -> String {
    id::sha256_hex(format!("{kind} {what}").as_bytes())
}

/// The network that an address is counted with: of IPv6 the /64 that one customer has.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Now, in Unix milliseconds.
fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobodys_hash_is_read_and_is_no_ones() {
        let hashing = Hashing::default();
        assert!(!hashing.verify("a password of nobody".into(), NOBODY.to_owned()).await.unwrap());
    }

    #[test]
    fn addresses_are_counted_by_customer() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn names_are_told_apart() {
        assert!(check_name("ana@example.org").is_ok());
        for name in ["", " ana", "ana\n", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(matches!(check_name(name), Err(AccessError::Name)), "{name:?}");
        }
    }
}
