//! Passwords: how long one has to be, and how its hash is made.

use std::time::Duration;

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{error::Elapsed, timeout},
};

/// Fewest characters; NIST SP 800-63B-4 asks for 15 where the password is all that there is.
pub const MIN_CHARS: usize = 15;
/// Most bytes: more would only cost time.
pub const MAX_BYTES: usize = 1024;
/// Hashes made at a time: each takes 19 MiB and a core for some tens of milliseconds.
const AT_A_TIME: usize = 2;
/// How long a hash may wait for its turn and take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why there is no hash or no answer.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is too short or too long.
    #[error("password: need at least {MIN_CHARS} characters and at most {MAX_BYTES} bytes")]
    Unfit,
    /// As many as allowed wait for their turn.
    #[error("too many sign-ins at a time, try again in a moment")]
    Busy(#[from] Elapsed),
    /// The hash cannot be made or read.
    #[error("password cannot be hashed: {0}")]
    Hash(String),
}

/// Makes and checks hashes, a few at a time and off the runtime. Argon2id with 19 MiB, two passes and one lane, which are the
/// crate's defaults and the first choice of OWASP's Password Storage Cheat Sheet.
#[derive(Debug)]
pub struct Hashing {
    permits: Semaphore,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_A_TIME) }
    }
}

impl Hashing {
    /// The hash of a password with its salt and parameters.
    ///
    /// # Errors
    /// All of [`PasswordError`].
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let text = password.expose_secret();
        if text.chars().count() < MIN_CHARS || text.len() > MAX_BYTES {
            return Err(PasswordError::Unfit);
        }
        let made = self.in_turn(move || {
            let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| PasswordError::Hash(error.to_string()))
        });
        made.await
    }

    /// Whether a password is the one of a hash. One that is too long is of none, and takes no time.
    ///
    /// # Errors
    /// [`PasswordError::Busy`], [`PasswordError::Hash`].
    pub async fn verify(&self, password: SecretString, hash: String) -> Result<bool, PasswordError> {
        if password.expose_secret().len() > MAX_BYTES {
            return Ok(false);
        }
        let checked = self.in_turn(move || {
            let hash = PasswordHash::new(&hash).map_err(|error| PasswordError::Hash(error.to_string()))?;
            Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
        });
        checked.await
    }

    /// Does it when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let gone = |error: &dyn std::fmt::Display| PasswordError::Hash(error.to_string());
        let permit = timeout(DEADLINE, self.permits.acquire()).await?.map_err(|error| gone(&error))?;
        let done = spawn_blocking(work).await.map_err(|error| gone(&error))?;
        drop(permit);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_argon2id_with_owasps_parameters_and_knows_its_password() {
        let hashing = Hashing::default();
        let hash = hashing.hash("correct horse battery".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hashing.verify("correct horse battery".into(), hash.clone()).await.unwrap());
        assert!(!hashing.verify("correct horse batterz".into(), hash).await.unwrap());
    }

    #[tokio::test]
    async fn short_and_endless_passwords_are_refused() {
        let hashing = Hashing::default();
        for password in ["fourteen chars".to_owned(), "x".repeat(MAX_BYTES + 1)] {
            assert!(matches!(hashing.hash(password.into()).await, Err(PasswordError::Unfit)));
        }
    }
}
