//! A message without its personal data and secrets.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fs,
    path::PathBuf,
};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::{BadPattern, Finding, Kind, Recognisers, RedactionConfig, Treatment};
use crate::domain::{
    id::sha256_hex,
    placeholder::{self, PSEUDONYM_DIGITS},
};

/// Raised by hand when the code changes what is found or what stands in its place.
const REVISION: u32 = 1;
/// Fewest bytes of a key.
const MIN_KEY_BYTES: usize = 32;
/// Fewest digits of a number that may be something else than a count.
const MIN_NUMBER_DIGITS: usize = 9;
/// Longest name, and longest text under it, that are read together.
const MAX_NAMED_BYTES: usize = 100;
/// Names by which calls, traces and providers' requests are found again, and digests. What is personal in them becomes a
/// pseudonym, whatever the policy says: two that differ must go on to differ.
const IDENTITIES: [&str; 7] = [
    "tenant_id",
    "request_id",
    "trace_id",
    "span_id",
    "provider_request_id",
    "messages_hash",
    "response_hash",
];
/// Key of the pseudonyms of identities where none is configured: it only keeps different ones different.
const NO_KEY: &[u8] = b"aftercheck without [redaction] key_file";
/// Kinds that come without configuration.
pub const SHIPPED_KINDS: [&str; 9] =
    ["card", "email", "iban", "ipv4", "ipv6", "key", "phone", "ssn", "url_secret"];

/// Why redaction cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RedactionError {
    /// A pattern or list cannot be used.
    #[error("[redaction.recognisers] {0}")]
    Pattern(#[from] BadPattern),
    /// The key cannot be read.
    #[error("[redaction] key_file {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key is too short.
    #[error("[redaction] key_file {}: {bytes} bytes, at least {MIN_KEY_BYTES} are needed; \
         make one with `openssl rand -hex 32`", path.display())]
    ShortKey {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: usize,
    },
    /// Pseudonyms without a key could be undone by anyone.
    #[error("[redaction] key_file: treatment \"pseudonym\" needs one; make it with `openssl rand -hex 32`")]
    NoKey,
    /// A treatment is given to something that nothing finds.
    #[error("[redaction] kinds: nothing is called {0:?}; the kinds are {1}")]
    UnknownKind(String, String),
}

/// Takes personal data and secrets out of messages. The same message always becomes the same.
#[derive(Debug)]
pub struct Redactor {
    recognisers: Recognisers,
    config: RedactionConfig,
    key: SecretSlice<u8>,
}

impl Redactor {
    /// A redactor of this policy.
    ///
    /// # Errors
    /// [`RedactionError`] naming the key and the remedy.
    pub fn new(config: &RedactionConfig) -> Result<Self, RedactionError> {
        let recognisers = Recognisers::new(&config.recognisers)?;
        let kinds: Vec<&str> = SHIPPED_KINDS.into_iter().chain(config.recognisers.names()).collect();
        if let Some(unknown) = config.named().find(|name| !kinds.contains(name)) {
            return Err(RedactionError::UnknownKind(unknown.to_owned(), kinds.join(", ")));
        }
        let key = match &config.key_file {
            None if config.needs_key() => return Err(RedactionError::NoKey),
            None => NO_KEY.to_vec(),
            Some(path) => {
                let key =
                    fs::read(path).map_err(|source| RedactionError::Key { path: path.clone(), source })?;
                if key.trim_ascii().len() < MIN_KEY_BYTES {
                    let bytes = key.trim_ascii().len();
                    return Err(RedactionError::ShortKey { path: path.clone(), bytes });
                }
                key.trim_ascii().to_vec()
            }
        };
        Ok(Self { recognisers, config: config.clone(), key: key.into() })
    }

    /// The shipped kinds, all masked.
    pub fn shipped() -> Self {
        let config = RedactionConfig::default();
        Self { recognisers: Recognisers::shipped(), config, key: NO_KEY.to_vec().into() }
    }

    /// Changes when the same message may become another one.
    pub fn digest(&self) -> String {
        // What does not change a message is left out.
        let policy =
            RedactionConfig { canaries: Vec::new(), scan_hours: 0, key_file: None, ..self.config.clone() };
        let config = serde_json::to_string(&policy).unwrap_or_default();
        let key = self.code("digest", "of the key");
        sha256_hex(format!("{REVISION} {config} {key}").as_bytes())[..16].to_owned()
    }

    /// Takes what is personal out of a message, wherever it stands: in texts, names of fields, and numbers that are
    /// more than counts. The same value has the same placeholder everywhere in it. A message that was redacted stays
    /// as it is.
    pub fn message(&self, message: &mut Value) {
        let word = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        let (environment, tenant_id) = (word("environment"), word("tenant_id"));
        let mut work = Work::new(self, environment.as_deref(), tenant_id.as_deref());
        work.look_over(message);
        let Value::Object(fields) = message else { return work.value("", message) };
        for (name, value) in fields.iter_mut() {
            match value {
                Value::String(text) if IDENTITIES.contains(&name.as_str()) => {
                    if let Cow::Owned(redacted) = self.identity(text) {
                        *text = redacted;
                    }
                }
                value => work.value(name, value),
            }
        }
        work.keys(fields);
    }

    /// A payload without what is personal, as JSON where it is JSON and as text otherwise. What is kept of a message
    /// that cannot be read.
    pub fn payload(&self, payload: &[u8]) -> Vec<u8> {
        if let Ok(mut message) = serde_json::from_slice::<Value>(payload) {
            let before = message.clone();
            self.message(&mut message);
            // Unchanged, it keeps its bytes.
            return if message == before { payload.to_vec() } else { message.to_string().into_bytes() };
        }
        let text = String::from_utf8_lossy(payload);
        let mut work = Work::new(self, None, None);
        work.count(&text);
        match work.text(&text) {
            Some(redacted) => redacted.into_bytes(),
            None => payload.to_vec(),
        }
    }

    /// A request id, tenant or trace id as calls have it after redaction: with it a call is found again.
    pub fn identity<'a>(&self, id: &'a str) -> Cow<'a, str> {
        let found = self.recognisers.find(id);
        if found.is_empty() {
            return Cow::Borrowed(id);
        }
        let (mut redacted, mut at) = (String::with_capacity(id.len()), 0);
        for value in found {
            redacted.push_str(&id[at..value.start]);
            redacted.push_str(&self.pseudonym(value.kind.name(), &id[value.start..value.end]));
            at = value.end;
        }
        redacted.push_str(&id[at..]);
        Cow::Owned(redacted)
    }

    /// The pseudonym of a value.
    fn pseudonym(&self, kind: &str, value: &str) -> String {
        placeholder::pseudonym(kind, &self.code(kind, &bare(kind, value)))
    }

    /// Keyed hash of a value, in hex.
    fn code(&self, kind: &str, bare: &str) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.expose_secret()) else {
            return String::new();
        };
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(bare.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        hex[..PSEUDONYM_DIGITS].to_owned()
    }
}

/// What is the same of a value however it is written: of numbers the letters and digits, of others all, in small letters.
fn bare(kind: &str, value: &str) -> String {
    match kind {
        "email" | "key" | "url_secret" | "ipv4" | "ipv6" => value.to_lowercase(),
        _ => value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect(),
    }
}

/// One message while it is redacted.
struct Work<'a> {
    redactor: &'a Redactor,
    environment: Option<&'a str>,
    tenant_id: Option<&'a str>,
    /// Numbers of the values of a kind, and the next.
    numbers: HashMap<String, (HashMap<String, usize>, usize)>,
}

impl<'a> Work<'a> {
    fn new(redactor: &'a Redactor, environment: Option<&'a str>, tenant_id: Option<&'a str>) -> Self {
        Self { redactor, environment, tenant_id, numbers: HashMap::new() }
    }

    /// Finds the placeholders that are there, so that their numbers are not given to other values.
    fn look_over(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.count(text),
            Value::Array(items) => items.iter().for_each(|item| self.look_over(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.count(name);
                    self.look_over(value);
                }
            }
            _ => {}
        }
    }

    /// Finds the placeholders of a text.
    fn count(&mut self, text: &str) {
        if !text.contains('<') {
            return;
        }
        let names = SHIPPED_KINDS.into_iter().chain(self.redactor.config.recognisers.names());
        for kind in names {
            let highest =
                placeholder::find(text, kind).iter().filter_map(|one| one.number()).max().unwrap_or(0);
            if highest > 0 {
                let (_, next) = self.numbers.entry(kind.to_owned()).or_insert_with(|| (HashMap::new(), 1));
                *next = (*next).max(highest + 1);
            }
        }
    }

    /// Redacts all that hangs on a value, which stands under a name. The depth of a message is bounded where it is read.
    fn value(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(redacted) = self.under(name, text) {
                    *text = redacted;
                }
            }
            Value::Number(number) => {
                let digits = number.to_string();
                if digits.len() >= MIN_NUMBER_DIGITS
                    && let Some(redacted) = self.under(name, &digits)
                {
                    *value = Value::String(redacted);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(name, item)),
            Value::Object(fields) => {
                fields.iter_mut().for_each(|(name, value)| self.value(name, value));
                self.keys(fields);
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A text under a name, which may say what it is where the text does not: nine digits under `ssn`.
    fn under(&mut self, name: &str, text: &str) -> Option<String> {
        if text.len() > MAX_NAMED_BYTES || !(2..=MAX_NAMED_BYTES).contains(&name.len()) {
            return self.text(text);
        }
        let before = format!("{}: ", name.replace(['_', '-', '.'], " "));
        let named = format!("{before}{text}");
        let found =
            self.redactor.recognisers.find(&named).into_iter().filter(|value| value.start >= before.len());
        let found = found.map(|value| Finding {
            start: value.start - before.len(),
            end: value.end - before.len(),
            kind: value.kind,
        });
        self.without(text, found.collect())
    }

    /// Redacts names of fields.
    fn keys(&mut self, fields: &mut Map<String, Value>) {
        let changed: Vec<(String, String)> =
            fields.keys().filter_map(|name| Some((name.clone(), self.text(name)?))).collect();
        for (name, mut redacted) in changed {
            if let Some(value) = fields.remove(&name) {
                // Two that were told apart by what is gone.
                while fields.contains_key(&redacted) {
                    redacted.push('_');
                }
                fields.insert(redacted, value);
            }
        }
    }

    /// A text without what is personal; none where nothing is.
    fn text(&mut self, text: &str) -> Option<String> {
        let found = self.redactor.recognisers.find(text);
        self.without(text, found)
    }

    /// A text without what was found in it; none where all of it stays.
    fn without(&mut self, text: &str, found: Vec<Finding>) -> Option<String> {
        let (mut redacted, mut at) = (String::new(), 0);
        for value in found {
            let written = &text[value.start..value.end];
            let Some(instead) = self.instead(&value.kind, written) else { continue };
            redacted.push_str(&text[at..value.start]);
            redacted.push_str(&instead);
            at = value.end;
        }
        if at == 0 {
            return None;
        }
        redacted.push_str(&text[at..]);
        Some(redacted)
    }

    /// What stands in place of a value; none where it stays.
    fn instead(&mut self, kind: &Kind, value: &str) -> Option<String> {
        let name = kind.name();
        match self.redactor.config.treatment(name, self.environment, self.tenant_id) {
            Treatment::Keep => None,
            Treatment::Drop => Some(String::new()),
            Treatment::Pseudonym => Some(self.redactor.pseudonym(name, value)),
            Treatment::Mask => {
                let (known, next) =
                    self.numbers.entry(name.to_owned()).or_insert_with(|| (HashMap::new(), 1));
                let number = match known.entry(bare(name, value)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        *next += 1;
                        *new.insert(*next - 1)
                    }
                };
                Some(placeholder::numbered(name, number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CARD: &str = "4111 1111 1111 1111";
    const OTHER_CARD: &str = "5500-0000-0000-0004";

    fn redactor(config: Value) -> Result<Redactor, RedactionError> {
        Redactor::new(&serde_json::from_value(config).unwrap())
    }

    fn redacted(redactor: &Redactor, mut message: Value) -> Value {
        redactor.message(&mut message);
        message
    }

    #[test]
    fn the_same_value_has_the_same_placeholder_wherever_and_however_it_is_written() {
        let message = json!({
            "tenant_id": "acme", "messages_hash": "0f1e2d3c4b5a6978",
            "metadata": {"card 4111111111111111": true, "number": 4111111111111111_u64, "count": 12},
            "content": {
                "input": format!("Is {CARD} mine? Not {OTHER_CARD}!"),
                "answer": format!("Yes, 4111-1111-1111-1111; write to Jane@Example.com."),
                "contexts": [{"id": "a", "text": format!("{OTHER_CARD}, jane@example.com")}],
            },
        });
        let redactor = Redactor::shipped();
        let once = redacted(&redactor, message);
        assert_eq!(
            once,
            json!({
                "tenant_id": "acme", "messages_hash": "0f1e2d3c4b5a6978",
                "metadata": {"card <CARD>": true, "number": "<CARD>", "count": 12},
                "content": {
                    "input": "Is <CARD> mine? Not <CARD_2>!",
                    "answer": "Yes, <CARD>; write to <EMAIL>.",
                    "contexts": [{"id": "a", "text": "<CARD_2>, <EMAIL>"}],
                },
            })
        );
        assert_eq!(redacted(&redactor, once.clone()), once, "what is redacted stays as it is");
        let named =
            redacted(&redactor, json!({"metadata": {"customer_ssn": "536904399", "order": "536904399"}}));
        assert_eq!(
            named,
            json!({"metadata": {"customer_ssn": "<SSN>", "order": "536904399"}}),
            "names say what it is"
        );
        let late = json!({"a": "<CARD> and <CARD_7>", "b": CARD});
        assert_eq!(redacted(&redactor, late)["b"], "<CARD_8>", "a number that is taken is not given again");
    }

    #[test]
    fn identities_stay_apart_and_are_found_again() {
        let redactor = Redactor::shipped();
        let message = |id: &str| redacted(&redactor, json!({"request_id": id, "tenant_id": "acme"}));
        let (one, other) = (message("chat jane@example.com 1"), message("chat joe@example.com 1"));
        assert_ne!(one, other);
        let one = one["request_id"].as_str().unwrap();
        assert!(one.starts_with("chat <EMAIL:") && one.ends_with("> 1"), "{one}");
        assert_eq!(redactor.identity("chat jane@example.com 1"), one);
        assert_eq!(redactor.identity("req_1c210a076610645a"), "req_1c210a076610645a");
    }

    #[test]
    fn a_policy_says_what_becomes_of_which() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        fs::write(&key_file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let config = json!({
            "kinds": {"email": "pseudonym", "phone": "drop", "badge": "mask"},
            "exceptions": [{"environment": "staging", "kinds": {"card": "keep"}}],
            "key_file": key_file,
            "recognisers": {"patterns": [{"name": "badge", "regex": r"\bB-\d{6}\b"}]},
        });
        let redactor = redactor(config).unwrap();
        let text = format!("{CARD} jane@example.com B-123456 call +44 20 7946 0958");
        let message =
            |environment: &str| redacted(&redactor, json!({"environment": environment, "text": text}));
        let production = message("production")["text"].as_str().unwrap().to_owned();
        let email = placeholder::find(&production, "email")[0].text.to_owned();
        assert_eq!(production, format!("<CARD> {email} <BADGE> call "));
        assert_eq!(email.len(), "<EMAIL:>".len() + PSEUDONYM_DIGITS);
        assert_eq!(message("staging")["text"], format!("{CARD} {email} <BADGE> call "));
        let shipped = Redactor::shipped();
        assert_ne!(shipped.identity("jane@example.com"), email, "another key makes other pseudonyms");
        assert_ne!(shipped.digest(), redactor.digest());
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_refused_with_a_remedy() {
        let error = |config| redactor(config).unwrap_err().to_string();
        assert!(error(json!({"treatment": "pseudonym"})).contains("openssl rand"));
        assert!(
            error(json!({"kinds": {"crad": "mask"}}))
                .contains("nothing is called \"crad\"; the kinds are card")
        );
        assert!(error(json!({"key_file": "/nowhere/key"})).contains("/nowhere/key"));
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        fs::write(&key_file, "short\n").unwrap();
        assert!(error(json!({"key_file": key_file})).contains("5 bytes"));
        assert!(error(json!({"recognisers": {"patterns": [{"name": "x", "regex": "("}]}})).contains("\"x\""));
    }

    #[test]
    fn what_cannot_be_read_is_redacted_as_text() {
        let redactor = Redactor::shipped();
        let payload = |bytes: &[u8]| String::from_utf8(redactor.payload(bytes)).unwrap();
        assert_eq!(payload(br#"{"a": "4111 1111 1111 1111", "b":"#), r#"{"a": "<CARD>", "b":"#);
        assert_eq!(
            payload(br#"{"a":"\u0034111 1111 1111 1111"}"#),
            r#"{"a":"<CARD>"}"#,
            "escapes hide nothing"
        );
        assert_eq!(payload(b"\"jane@example.com\""), "\"<EMAIL>\"");
        assert_eq!(payload(b"  {\"kept\":  1} "), "  {\"kept\":  1} ");
        assert_eq!(redactor.payload(b"\xff\xfe"), b"\xff\xfe", "what holds nothing keeps its bytes");
        assert_eq!(payload(b"\xff jane@example.com"), "\u{fffd} <EMAIL>");
    }
}
