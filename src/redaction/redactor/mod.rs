//! A message without its personal data and secrets.

mod names;
#[cfg(test)]
mod tests;
mod work;

use std::{borrow::Cow, fs, path::PathBuf};

use hmac::{Hmac, KeyInit, Mac, digest::Key};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub(in crate::redaction) use self::work::bare;
pub use self::work::is_measure;
use self::work::{Calls, Work};
use super::{BadNames, BadPattern, Names, Recognisers, RedactionConfig, names::REVISION as NAMES_REVISION};
use crate::domain::{
    id::sha256_hex,
    placeholder::{self, PSEUDONYM_DIGITS},
};

/// Raised by hand when the code changes what is found or what stands in its place.
const REVISION: u32 = 2;
/// What some editors write before UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();
/// Fewest bytes of a key.
const MIN_KEY_BYTES: usize = 32;
/// What the environment of a call is that does not name one.
const DEFAULT_ENVIRONMENT: &str = "production";
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

/// Longest name of a customer that calls are found by: an index entry holds no more.
const MAX_USER_BYTES: usize = 1000;

/// A name that is a text or a number.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Why redaction cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RedactionError {
    /// A pattern or list cannot be used.
    #[error("[redaction.recognisers] {0}")]
    Pattern(#[from] BadPattern),
    /// The analyzer of names cannot be asked.
    #[error(transparent)]
    Names(#[from] BadNames),
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
    /// A treatment is given to what is found in calls only.
    #[error(
        "[redaction] exceptions: {0} for a destination: the analyzer is asked about what is kept, not about what is \
         sent; take {0} out of what is kept"
    )]
    NotSent(String),
    /// A treatment is given to something that nothing finds.
    #[error("[redaction] kinds: nothing is called {0:?}; the kinds are {1}")]
    UnknownKind(String, String),
}

/// Takes personal data and secrets out of messages. The same message always becomes the same.
#[derive(Debug)]
pub struct Redactor {
    recognisers: Recognisers,
    names: Option<Names>,
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
        let names = Names::new(&config.names)?;
        let mut kinds: Vec<&str> = SHIPPED_KINDS.into_iter().chain(config.recognisers.names()).collect();
        for kind in names.iter().flat_map(Names::kinds) {
            if kinds.contains(&kind) {
                return Err(BadNames::Taken(kind.to_uppercase()).into());
            }
            kinds.push(kind);
        }
        if let Some(unknown) = config.named().find(|name| !kinds.contains(name)) {
            return Err(RedactionError::UnknownKind(unknown.to_owned(), kinds.join(", ")));
        }
        let named = names.iter().flat_map(Names::kinds);
        if let Some(kind) = named.into_iter().find(|kind| config.is_sent_otherwise(kind)) {
            return Err(RedactionError::NotSent(kind.to_owned()));
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
        Ok(Self { recognisers, names, config: config.clone(), key: key.into() })
    }

    /// The shipped kinds, all masked.
    pub fn shipped() -> Self {
        let config = RedactionConfig::default();
        Self { recognisers: Recognisers::shipped(), names: None, config, key: NO_KEY.to_vec().into() }
    }

    /// Changes when the same message may become another one.
    pub fn digest(&self) -> String {
        // What does not change a message is left out.
        let mut policy = RedactionConfig {
            names: self.config.names.policy(),
            canaries: Vec::new(),
            scan_hours: 0,
            key_file: None,
            ..self.config.clone()
        };
        policy.exceptions.retain(|exception| exception.destination.is_none());
        let key = self.code("digest", "of the key");
        let asking = self.names.as_ref().map(|_| NAMES_REVISION);
        sha256_hex(format!("{REVISION} {policy:?} {key} {asking:?}").as_bytes())[..16].to_owned()
    }

    /// Takes what is personal out of a message, wherever it stands: in texts, names of fields, and numbers that are
    /// more than counts. The same value has the same placeholder everywhere in it. A message that was redacted stays
    /// as it is.
    pub fn message(&self, message: &mut Value) {
        let word = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        let (environment, tenant_id) = (word("environment"), word("tenant_id"));
        let environment = environment.unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned());
        let mut work =
            Work::new(self, Calls::Of { environment: &environment, tenant_id: tenant_id.as_deref() });
        work.look_over(message);
        let Value::Object(fields) = message else { return work.value("", message) };
        for (name, value) in fields.iter_mut() {
            match value {
                Value::String(time) if name == "occurred_at" && time.parse::<Timestamp>().is_ok() => {}
                Value::String(text) if IDENTITIES.contains(&name.as_str()) => {
                    if let Cow::Owned(redacted) = self.identity(text) {
                        *text = redacted;
                    }
                }
                value => {
                    // What producers put there has names of their own.
                    work.is_free = name == "metadata";
                    let user = if work.is_free { self.take_user(value) } else { None };
                    work.value(name, value);
                    if let (Some(user), Value::Object(metadata)) = (user, value) {
                        metadata.insert(self.config.user_field.clone(), user);
                    }
                    work.is_free = false;
                }
            }
        }
        work.keys(fields);
    }

    /// A payload without what is personal, as JSON where it is JSON and as text otherwise. What is kept of a message
    /// that cannot be read.
    pub fn payload(&self, payload: &[u8]) -> Vec<u8> {
        let payload = payload.strip_prefix(BOM).unwrap_or(payload);
        let text = String::from_utf8_lossy(payload);
        if let Ok(mut message) = serde_json::from_slice::<Value>(payload) {
            // Placeholders are numbered in this order, whatever order the producer wrote.
            message.sort_all_objects();
            let before = message.clone();
            self.message(&mut message);
            // It keeps its bytes where nothing is in them, not even in a field that is there twice.
            let is_clean = message == before && self.recognisers.find(&text).is_empty();
            return if is_clean { payload.to_vec() } else { message.to_string().into_bytes() };
        }
        // In UTF-16 every other byte is one of these.
        let text = text.replace('\0', "");
        let mut work = Work::new(self, Calls::Unknown);
        work.count(&text);
        match work.text(&text) {
            Some(redacted) => redacted.into_bytes(),
            None => payload.to_vec(),
        }
    }

    /// Takes out of texts about a tenant's call what a destination is not to have; the same value has the same placeholder
    /// in all of them. Nothing changes where no exception names the destination.
    pub fn sent(&self, destination: &str, tenant_id: &str, texts: &mut [&mut String]) {
        if !self.config.destinations().any(|named| named == destination) {
            return;
        }
        let mut work = Work::new(self, Calls::Sent { destination, tenant_id });
        texts.iter().for_each(|text| work.count(text));
        for text in texts {
            work.placeholders(text);
            if let Some(less) = work.text(text) {
                **text = less;
            }
        }
    }

    /// A request id, tenant or trace id as calls have it after redaction: with it a call is found again.
    pub fn identity<'a>(&self, id: &'a str) -> Cow<'a, str> {
        let found = self.recognisers.find(&self.opaque(id));
        if found.is_empty() {
            return Cow::Borrowed(id);
        }
        let (mut redacted, mut at) = (String::with_capacity(id.len()), 0);
        for value in found {
            // As it is written: two that differ in nothing but their spelling are two.
            let (before, written) = (id.get(at..value.start), id.get(value.start..value.end));
            let kind = value.kind.name();
            let code = self.code(kind, written.unwrap_or_default());
            redacted.push_str(before.unwrap_or_default());
            redacted.push_str(&placeholder::pseudonym(kind, &code));
            at = value.end;
        }
        redacted.push_str(id.get(at..).unwrap_or_default());
        Cow::Owned(redacted)
    }

    /// Whose call it is, by the metadata of a redacted message.
    pub fn user_key(&self, metadata: &Map<String, Value>) -> Option<String> {
        let key = word(metadata.get(&self.config.user_field)?)?;
        Some(key).filter(|key| (1..=MAX_USER_BYTES).contains(&key.len()))
    }

    /// Puts the customer's name back where the search for names has taken it out: calls are found by it.
    pub fn restore_user(&self, from: &Map<String, Value>, to: &mut Map<String, Value>) {
        if let (Some(user), Some(there)) =
            (from.get(&self.config.user_field), to.get_mut(&self.config.user_field))
        {
            *there = user.clone();
        }
    }

    /// Takes the customer's name out of `metadata`, as it is to stand there.
    fn take_user(&self, metadata: &mut Value) -> Option<Value> {
        let user = metadata.get_mut(&self.config.user_field)?;
        let id = word(user)?;
        let redacted = match self.identity(&id) {
            Cow::Owned(redacted) => Value::String(redacted),
            Cow::Borrowed(_) => user.clone(),
        };
        // Meanwhile nothing that could be taken for anything.
        *user = Value::Null;
        Some(redacted)
    }

    /// All kinds that have placeholders.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        let local = SHIPPED_KINDS.into_iter().chain(self.config.recognisers.names());
        local.chain(self.names.iter().flat_map(Names::kinds))
    }

    /// A text of the same length in which placeholders say nothing: they are neither values nor words.
    fn opaque<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !text.contains('<') {
            return Cow::Borrowed(text);
        }
        Cow::Owned(placeholder::blank(text, self.kinds()))
    }

    /// The pseudonym of a value.
    fn pseudonym(&self, kind: &str, value: &str) -> String {
        placeholder::pseudonym(kind, &self.code(kind, &bare(kind, value)))
    }

    /// Keyed hash of a value, in hex.
    fn code(&self, kind: &str, bare: &str) -> String {
        // Keyed by the key's digest, which fits a block: nothing can go wrong that would make all codes the same.
        let mut block = Key::<Hmac<Sha256>>::default();
        block[..32].copy_from_slice(&Sha256::digest(self.key.expose_secret()));
        let mut mac = Hmac::<Sha256>::new(&block);
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(bare.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        // The first is a letter, so that no code is taken for a card number.
        let first = char::from(b'a' + hex.as_bytes()[0] % 6);
        format!("{first}{}", &hex[1..PSEUDONYM_DIGITS])
    }
}
