//! Ids derived from what they are about: the same thing has the same id, however often we are killed.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Namespace of all our UUIDv5 (RFC 9562 §5.5): itself the UUIDv5 of "aftercheck" under the DNS namespace.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"aftercheck")
}

/// UUIDv5 of a kind and the parts that identify one thing of it. Parts are length-prefixed, so that
/// ("a", "bc") and ("ab", "c") differ.
pub fn derived(kind: &str, parts: &[&str]) -> Uuid {
    let mut name = kind.to_owned();
    for part in parts {
        name.push_str(&format!("\u{1f}{}:{part}", part.len()));
    }
    Uuid::new_v5(&namespace(), name.as_bytes())
}

/// The same as a UUIDv8 (RFC 9562 §5.8) that begins with a time, 48 bits of Unix milliseconds as in UUIDv7: what is
/// written at one time then lies together in an index. Ids without an order make every commit write all over indexes
/// that grow, and a store that holds much slower than one that holds little. A time before 1970 counts as 1970.
pub fn derived_at(at: Timestamp, kind: &str, parts: &[&str]) -> Uuid {
    let mut bytes = derived(kind, parts).into_bytes();
    let ms = at.as_millisecond().max(0);
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Lower-case hex SHA-256 of some bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// First 16 hex digits of SHA-256 of the whitespace-folded, lower-cased answer (design of `response_hash`).
pub fn response_hash(answer: &str) -> String {
    let folded = answer.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    sha256_hex(folded.as_bytes())[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(derived("evaluation", &["a", "bc"]), derived("evaluation", &["ab", "c"]));
        assert_eq!(derived("evaluation", &["a", "b"]), derived("evaluation", &["a", "b"]));
    }

    #[test]
    fn ids_are_in_the_order_of_their_times() {
        let id = |ms, part| derived_at(Timestamp::from_millisecond(ms).unwrap(), "evaluation", &[part]);
        assert_eq!(id(1, "a"), id(1, "a"));
        assert_ne!(id(1, "a"), id(1, "b"));
        assert!(id(1, "a") < id(2, "b") && id(1, "b") < id(2, "a"));
        assert_eq!(id(-1, "a"), id(0, "a"));
        assert_eq!(id(1_793_613_600_000, "a").to_string()[..15], *"01a19bb3-9500-8");
        assert_eq!(id(1, "a").get_version_num(), 8);
    }

    #[test]
    fn response_hash_folds_space_and_case() {
        assert_eq!(response_hash("Hello   World\n"), response_hash("hello world"));
        assert_eq!(response_hash("x").len(), 16);
    }
}
