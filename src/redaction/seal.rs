//! Messages as they were delivered, for the few that whoever looks for a fault has to see: encrypted, with a key of their
//! own.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// Bytes of a key, written as twice as many hex digits.
const KEY_BYTES: usize = 32;
/// First byte of what is sealed: AES-256-GCM, a nonce of 12 bytes, the ciphertext with its tag.
const FORM: u8 = 1;

/// Why a message cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key cannot be read.
    #[error("key_file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("key_file {}: needs 64 hex digits; make it with `openssl rand -hex 32`", .0.display())]
    NoKey(PathBuf),
    /// The message was sealed with another key or for another call, or was changed.
    #[error("does not open with this key: was it sealed with another one?")]
    Closed,
    /// The library could not encrypt.
    #[error("could not be sealed")]
    NotSealed,
}

/// A key that seals and opens. Random nonces: one key is good for some four thousand million messages (NIST SP 800-38D
/// §8.3).
pub struct Seal {
    key: RandomizedNonceKey,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The key in a file: 64 hex digits, and white space around them.
    ///
    /// # Errors
    /// [`SealError::Read`] and [`SealError::NoKey`], which name the file.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let text =
            fs::read_to_string(path).map_err(|source| SealError::Read { path: path.to_owned(), source })?;
        let no_key = || SealError::NoKey(path.to_owned());
        let bytes = unhex(text.trim()).filter(|bytes| bytes.len() == KEY_BYTES).ok_or_else(no_key)?;
        Ok(Self { key: RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| no_key())? })
    }

    /// Seals a message for one call: it opens as that call's and no other's.
    ///
    /// # Errors
    /// [`SealError::NotSealed`].
    pub fn seal(&self, tenant_id: &str, request_id: &str, message: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut text = message.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(whose(tenant_id, request_id)), &mut text)
            .map_err(|_| SealError::NotSealed)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(FORM);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Opens what was sealed for a call.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn open(&self, tenant_id: &str, request_id: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, text) = sealed
            .strip_prefix(&[FORM])
            .and_then(|rest| rest.split_at_checked(NONCE_LEN))
            .ok_or(SealError::Closed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Closed)?;
        let mut text = text.to_vec();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(whose(tenant_id, request_id)), &mut text)
            .map_err(|_| SealError::Closed)?;
        Ok(opened.to_vec())
    }
}

/// The call that a message is sealed for; lengths keep its parts apart.
fn whose(tenant_id: &str, request_id: &str) -> Vec<u8> {
    format!("{}:{tenant_id}{request_id}", tenant_id.len()).into_bytes()
}

/// The bytes that hex digits stand for.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes = nibbles.filter(|nibbles| nibbles.len() % 2 == 0)?;
    bytes.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(digits: &str) -> Result<Seal, SealError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, digits).unwrap();
        Seal::read(&path)
    }

    #[test]
    fn only_the_key_opens_and_only_for_the_call() {
        let (one, other) =
            (seal(&format!("{}\n", "0a".repeat(32))).unwrap(), seal(&"0b".repeat(32)).unwrap());
        let sealed = one.seal("acme", "r1", b"4111 1111 1111 1111").unwrap();
        assert!(!sealed.windows(4).any(|bytes| bytes == b"4111"));
        assert_ne!(sealed, one.seal("acme", "r1", b"4111 1111 1111 1111").unwrap(), "no nonce comes twice");
        assert_eq!(one.open("acme", "r1", &sealed).unwrap(), b"4111 1111 1111 1111");
        let refused = |seal: &Seal, tenant, request, sealed: &[u8]| {
            assert!(matches!(seal.open(tenant, request, sealed), Err(SealError::Closed)));
        };
        refused(&other, "acme", "r1", &sealed);
        refused(&one, "acme", "r2", &sealed);
        refused(&one, "acmer", "1", &sealed);
        for cut in [0, 1, 12, 13, sealed.len() - 1] {
            refused(&one, "acme", "r1", &sealed[..cut]);
        }
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        refused(&one, "acme", "r1", &changed);
    }

    #[test]
    fn a_file_that_holds_no_key_is_named() {
        for digits in ["", "0a", &"0g".repeat(32), &"0a".repeat(33), &format!("é{}", "0".repeat(62))] {
            let error = seal(digits).unwrap_err().to_string();
            assert!(error.contains("key_file") && error.contains("openssl"), "{error}");
        }
        let error = Seal::read(Path::new("/nowhere/key")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/key"), "{error}");
    }
}
