//! Names of people and places, which no pattern finds: a Presidio analyzer is asked for them over HTTP. Optional.
//!
//! It is asked about calls that were redacted here already (`texts` says about which of their texts, in `batches`), so
//! that it never sees a card or an e-mail address (`client` is its API). What it finds is taken out wherever it stands
//! in the call (`found`), but for placeholders and citations (`protected`).

mod batches;
mod client;
mod found;
mod protected;
#[cfg(test)]
mod tests;
mod texts;

use std::{collections::HashSet, ops::Range, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::client::Client;
pub use self::client::{Down, NamesError};
use self::found::{FoundNames, Value, values};
use self::protected::Known;
use super::redactor::bare;
use crate::domain::Call;

/// Raised by hand when the code changes what is taken out.
pub(super) const REVISION: u32 = 1;
/// Longest language code and longest name of an entity.
const MAX_WORD_BYTES: usize = 40;
/// Most entities.
const MAX_ENTITIES: usize = 32;
/// Most of what is no name.
const MAX_ALLOWED: usize = 10_000;

/// `[redaction.names]`: a Presidio analyzer that finds names of people and places.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamesConfig {
    /// Where the analyzer answers `POST /analyze`, http or https, without user and password; absent: nobody is asked.
    pub url: Option<String>,
    /// The language that it is told texts are in; it has to serve it.
    pub language: String,
    /// What it is asked for. Each is a kind of `[redaction] kinds` by its name in small letters: `person`, `location`.
    pub entities: Vec<String>,
    /// Least score of what counts, 0 to 1.
    pub threshold: f64,
    /// What is no name, whatever the analyzer says and however it is written: products, words it gets wrong.
    pub allow_list: Vec<String>,
    /// Longest wait for the answer to one request, in seconds, connecting included; 1 to 300.
    pub deadline_secs: u64,
    /// Most text in one request, in bytes; 1000 to 1000000. A longer text is asked about in parts.
    pub batch_bytes: usize,
    /// What becomes of calls while it does not answer.
    pub when_down: WhenDown,
}

impl Default for NamesConfig {
    fn default() -> Self {
        Self {
            url: None,
            language: "en".into(),
            entities: vec!["PERSON".into(), "LOCATION".into()],
            threshold: 0.5,
            // "As an AI language model": a small model takes it for a place, and the rules need to read it.
            allow_list: vec!["AI".into()],
            deadline_secs: 10,
            batch_bytes: 100_000,
            when_down: WhenDown::Hold,
        }
    }
}

/// What becomes of calls while the analyzer does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// They wait: nothing with names in it is stored or sent.
    #[default]
    Hold,
    /// They go on with the names in them; what is recognised here is taken out all the same.
    LocalOnly,
}

/// Why the analyzer cannot be asked. The URL is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum BadNames {
    /// It cannot be read.
    #[error("[redaction.names] url: not an http or https URL; write it like http://127.0.0.1:5002")]
    Url,
    /// It holds what has no place in a file.
    #[error(
        "[redaction.names] url: takes no user, password, query or fragment; leave them out, and put a proxy before an \
         analyzer that asks for them"
    )]
    Parts,
    /// It is no language code.
    #[error("[redaction.names] language: need a code such as en or pt-BR")]
    Language,
    /// There is none, or one cannot be a kind.
    #[error(
        "[redaction.names] entities: need 1 to 32 names of capital letters and underscores, such as PERSON, each once"
    )]
    Entities,
    /// Something else is called so already.
    #[error("[redaction.names] entities: {0} is a kind that is found here already; leave it out")]
    Taken(String),
    /// A number is out of its range.
    #[error("[redaction.names] {0}")]
    Range(&'static str),
    /// The client cannot be made.
    #[error("[redaction.names] url: no connection can be made: {0}; https needs the system's certificates")]
    Client(#[source] reqwest::Error),
}

impl NamesConfig {
    /// Checks ranges and names.
    ///
    /// # Errors
    /// [`BadNames`] naming the key and the remedy.
    pub fn check(&self) -> Result<(), BadNames> {
        self.endpoint()?;
        let fits = |word: &str, is: fn(char) -> bool| {
            (1..=MAX_WORD_BYTES).contains(&word.len()) && word.chars().all(is)
        };
        if !fits(&self.language, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            return Err(BadNames::Language);
        }
        // No digits: `PERSON_2` would have the placeholder of the second person.
        let is_entity =
            |name: &String| fits(name, |c| c.is_ascii_uppercase() || c == '_') && !name.starts_with('_');
        let is_first = |(at, name): (usize, &String)| !self.entities[..at].contains(name);
        if !(1..=MAX_ENTITIES).contains(&self.entities.len())
            || !self.entities.iter().all(is_entity)
            || !self.entities.iter().enumerate().all(is_first)
        {
            return Err(BadNames::Entities);
        }
        let ranges = [
            ((0.0..=1.0).contains(&self.threshold), "threshold: need 0 to 1"),
            (
                self.allow_list.len() <= MAX_ALLOWED
                    && self.allow_list.iter().all(|name| !bare("", name).is_empty()),
                "allow_list: need at most 10000 names, each with a letter or digit",
            ),
            ((1..=300).contains(&self.deadline_secs), "deadline_secs: need 1 to 300"),
            ((1_000..=1_000_000).contains(&self.batch_bytes), "batch_bytes: need 1000 to 1000000"),
        ];
        ranges.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, remedy)| Err(BadNames::Range(remedy)))
    }

    /// What of it may change a call; the same for all that ask nobody. The URL is not: that another model answers at it
    /// can be seen no more than that another one answers at the same.
    pub(super) fn policy(&self) -> Self {
        match self.url {
            Some(_) => Self { url: Some(String::new()), deadline_secs: 0, ..self.clone() },
            None => Self::default(),
        }
    }

    /// Where requests go; none where nobody is asked.
    fn endpoint(&self) -> Result<Option<reqwest::Url>, BadNames> {
        let Some(url) = &self.url else { return Ok(None) };
        let mut url: reqwest::Url = url.trim().parse().map_err(|_| BadNames::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(BadNames::Url);
        }
        let more = url.query().or(url.fragment()).or(url.password());
        if more.is_some() || !url.username().is_empty() {
            return Err(BadNames::Parts);
        }
        url.path_segments_mut().map_err(|()| BadNames::Url)?.pop_if_empty().push("analyze");
        Ok(Some(url))
    }
}

/// Shows the texts of a call in which names may stand, in the order in which placeholders are numbered.
pub(super) fn texts_of(call: &Call, see: &mut dyn FnMut(&str)) {
    texts::read(call, &mut |text, _| see(text));
}

/// Finds names of people and places in calls; shared between threads, built once.
#[derive(Debug)]
pub struct Names {
    client: Client,
    config: NamesConfig,
    /// Names of its entities as kinds, in their order.
    kinds: Vec<Arc<str>>,
    /// What is no name, without what spelling adds.
    allowed: HashSet<String>,
}

impl Names {
    /// The analyzer of this configuration; none where it names none. Nobody is asked yet.
    ///
    /// # Errors
    /// [`BadNames`] naming the key and the remedy.
    pub fn new(config: &NamesConfig) -> Result<Option<Self>, BadNames> {
        config.check()?;
        let Some(url) = config.endpoint()? else { return Ok(None) };
        let client = Client::new(url, Duration::from_secs(config.deadline_secs)).map_err(BadNames::Client)?;
        let kinds = config.entities.iter().map(|entity| entity.to_lowercase().into()).collect();
        let allowed = config.allow_list.iter().map(|name| bare("", name)).collect();
        Ok(Some(Self { client, config: config.clone(), kinds, allowed }))
    }

    /// What becomes of calls while the analyzer does not answer.
    pub fn when_down(&self) -> WhenDown {
        self.config.when_down
    }

    /// The kinds of what it finds, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|kind| &**kind)
    }

    /// Asks about a text of our own: whether the analyzer is there, and serves the language and the entities.
    ///
    /// # Errors
    /// [`NamesError`].
    pub async fn try_out(&self) -> Result<(), NamesError> {
        let entities: Vec<&str> = self.config.entities.iter().map(String::as_str).collect();
        self.client.ask(&self.config, &entities, &["Jane Doe lives in Paris."]).await.map(drop)
    }

    /// What is asked to find the values of these kinds in a call; the same text is asked about once, one without letters
    /// never. `known` are the kinds that have placeholders.
    pub(super) fn questions(&self, call: &Call, kinds: &[&str], known: &[&str]) -> Questions {
        let asked = |(kind, entity): (&str, &String)| kinds.contains(&kind).then(|| entity.clone());
        let entities: Vec<String> = self.kinds().zip(&self.config.entities).filter_map(asked).collect();
        let texts = if entities.is_empty() { Vec::new() } else { asked_about(call, known) };
        Questions { entities, texts }
    }

    /// Asks the analyzer, a batch at a time.
    ///
    /// # Errors
    /// [`NamesError`]; what was answered before is not kept.
    pub(super) async fn ask(&self, questions: &Questions) -> Result<Answers, NamesError> {
        let Questions { entities, texts } = questions;
        let entities: Vec<&str> = entities.iter().map(String::as_str).collect();
        let mut answers = Answers::default();
        for batch in batches::of(texts.iter().map(|asked| asked.text.as_str()), self.config.batch_bytes) {
            let parts: Vec<&str> =
                batch.iter().map(|part| &texts[part.text].text[part.bytes.clone()]).collect();
            let answered = self.client.ask(&self.config, &entities, &parts).await?;
            let parts = batch.into_iter().map(|part| (part.text, part.bytes));
            answers.0.extend(parts.zip(answered).map(|((text, bytes), spans)| (text, bytes, spans)));
        }
        Ok(answers)
    }

    /// The names that were found by the answers to these questions.
    ///
    /// # Errors
    /// [`NamesError::Unreadable`] where it is too much to be looked for.
    pub(super) fn found(&self, questions: Questions, answers: Answers) -> Result<FoundNames, NamesError> {
        let Questions { entities, texts } = questions;
        let mut found: Vec<Vec<Value>> = texts.iter().map(|_| Vec::new()).collect();
        for (place, bytes, spans) in answers.0 {
            let Asked { text, protected } = &texts[place];
            let counted = spans.iter().filter(|span| span.score >= self.config.threshold);
            let spans = counted.filter(|span| entities.contains(&span.entity_type));
            let mut values = values(text, &bytes, spans, protected);
            values.retain(|value| !self.allowed.contains(&bare("", &text[value.place.clone()])));
            found[place].append(&mut values);
        }
        FoundNames::new(texts.into_iter().map(|asked| asked.text).zip(found), &self.kinds)
    }
}

/// What an analyzer is asked about one call. It says nothing of itself: it holds texts of the call.
#[derive(Default)]
pub struct Questions {
    entities: Vec<String>,
    texts: Vec<Asked>,
}

/// What it answered: the text, the part of it that it was asked about, and what it found there.
#[derive(Default)]
pub struct Answers(Vec<(usize, Range<usize>, Vec<client::Span>)>);

/// A text that is asked about.
struct Asked {
    text: String,
    /// Its bytes that stay.
    protected: Vec<Range<usize>>,
}

/// The texts of a call that are worth asking about, each once.
fn asked_about(call: &Call, known: &[&str]) -> Vec<Asked> {
    let known = Known::of(call, known);
    let (mut texts, mut seen) = (Vec::new(), HashSet::new());
    texts::read(call, &mut |text, form| {
        if texts::is_worth_asking(text, form) && seen.insert(text.to_owned()) {
            let protected = known.protected(text, form);
            texts.push(Asked { text: text.to_owned(), protected });
        }
    });
    texts
}
