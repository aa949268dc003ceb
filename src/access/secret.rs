//! Secrets that we make: tokens of sessions, keys of programs, passwords. Who has one is shown it once; kept is its digest.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::domain::id;

/// Random bytes of a secret: nobody guesses 256 bits, so a plain SHA-256 of it is enough.
const SECRET_BYTES: usize = 32;
/// What a key begins with, so that scanners of leaked secrets know it.
const KEY_MARK: &str = "ack_";
/// Letters of a key's secret part that are shown, behind the mark.
const SHOWN: usize = 8;
/// Random bytes of a password that we make: 120 bits.
const PASSWORD_BYTES: usize = 15;

/// The system has no random bytes to give.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// A token of a session.
///
/// # Errors
/// [`NoRandomness`].
pub fn token() -> Result<String, NoRandomness> {
    random::<SECRET_BYTES>()
}

/// A password that nobody has to think of.
///
/// # Errors
/// [`NoRandomness`].
pub fn password() -> Result<SecretString, NoRandomness> {
    random::<PASSWORD_BYTES>().map(SecretString::from)
}

/// A key and the part of it that is shown.
///
/// # Errors
/// [`NoRandomness`].
pub fn key() -> Result<(String, String), NoRandomness> {
    let shown: String =
        random::<SECRET_BYTES>()?.chars().filter(char::is_ascii_alphanumeric).take(SHOWN).collect();
    let prefix = format!("{KEY_MARK}{shown}");
    Ok((format!("{prefix}_{}", random::<SECRET_BYTES>()?), prefix))
}

/// What is kept of a token or a key.
pub fn digest(secret: &str) -> String {
    id::sha256_hex(secret.as_bytes())
}

/// So many random bytes, in letters that fit into a header.
fn random<const BYTES: usize>() -> Result<String, NoRandomness> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, two) = (token().unwrap(), token().unwrap());
        assert_ne!(one, two);
        assert_eq!(URL_SAFE_NO_PAD.decode(&one).unwrap().len(), SECRET_BYTES);
        assert_ne!(digest(&one), digest(&two));
    }

    #[test]
    fn what_is_shown_of_a_key_says_nothing_of_the_rest() {
        let (key, prefix) = key().unwrap();
        let rest = key.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('_')).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(rest).unwrap().len(), SECRET_BYTES);
        assert!(prefix.starts_with("ack_") && prefix.len() == KEY_MARK.len() + SHOWN);
    }
}
