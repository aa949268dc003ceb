//! Signatures of Standard Webhooks: a receiver can tell that a message is ours, whole and new.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, by the specification.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most secrets at a time: more than a rotation needs, and a header that any server takes.
const MOST: usize = 5;

/// Signs with every secret in force, so that receivers can go from one to the next.
#[derive(Debug)]
pub struct Signer {
    keys: Vec<SecretSlice<u8>>,
}

impl Signer {
    /// Reads secrets, `whsec_` and base64 each, with commas between them: the new one first, then those that receivers
    /// may still check with.
    ///
    /// # Errors
    /// What is wrong, and how to make one; never a secret.
    pub fn new(secrets: &SecretString) -> Result<Self, &'static str> {
        let keys = secrets.expose_secret().split(',').map(key).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            1..=MOST => Ok(Self { keys }),
            _ => Err("need 1 to 5 secrets, with commas between them"),
        }
    }

    /// The header `webhook-signature` of a message: one signature a secret.
    pub fn sign(&self, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
        let signatures = self.keys.iter().filter_map(|key| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).ok()?;
            mac.update(format!("{id}.{timestamp_secs}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// The bytes of one secret.
fn key(secret: &str) -> Result<SecretSlice<u8>, &'static str> {
    let bytes = secret.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    let bytes = bytes.filter(|bytes| BYTES.contains(&bytes.len()));
    let wrong = "a secret is whsec_ and the base64 of 24 to 64 bytes; make one with \
                 `echo whsec_$(openssl rand -base64 32)`";
    bytes.map(SecretSlice::from).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_vector_of_the_specification_is_signed_as_it_says() {
        let signer = Signer::new(&SECRET.into()).unwrap();
        let signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs_and_every_part_is_signed() {
        let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let signer = Signer::new(&format!("{other},{SECRET}").into()).unwrap();
        let signed = signer.sign("a", 1, b"b");
        let [first, second] = signed.split(' ').collect::<Vec<_>>()[..] else { panic!("{signed}") };
        assert_ne!(first, second);
        assert_eq!(Signer::new(&SECRET.into()).unwrap().sign("a", 1, b"b"), second);
        for (id, at, body) in [("x", 1, b"b"), ("a", 2, b"b"), ("a", 1, b"c")] {
            assert_ne!(signer.sign(id, at, body), signed);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        for wrong in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_*", &"whsec_A".repeat(9)] {
            let error = Signer::new(&wrong.into()).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        assert!(Signer::new(&[SECRET; 6].join(",").into()).is_err());
        assert!(!format!("{:?}", Signer::new(&SECRET.into()).unwrap()).contains("Mf"));
    }
}
