//! The proof of redaction: everything that is kept is searched for what should have been taken out. It says where
//! something was found, never what.

use std::{
    borrow::Cow,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    redaction::{Kind, Recognisers, is_measure},
    store::{Store, StoreError, StoredText},
};

/// Most hits that are named; the others are counted.
const MAX_NAMED: usize = 100;
/// Longest line of a file that is read at once; a longer one is read in pieces.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// A table and its column, or a file.
    pub place: String,
    /// The row's key, or the number of the line.
    pub key: String,
    /// `card`, `ssn`, or `canary` with its place in the list, from 1.
    pub kind: String,
}

/// What a scan has come to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Scanned {
    /// Texts that were searched.
    pub texts: u64,
    /// Values that were found.
    pub found: u64,
    /// Where, for the first of them.
    pub hits: Vec<Hit>,
}

/// Searches texts for payment cards, social security numbers and known canaries: values without a policy that would
/// keep them, and with check digits or words that tell them from chance.
pub struct Scanner<'a> {
    recognisers: Recognisers,
    canaries: &'a [String],
    scanned: Scanned,
}

impl<'a> Scanner<'a> {
    /// A scanner that knows these canaries.
    pub fn new(canaries: &'a [String]) -> Self {
        Self { recognisers: Recognisers::shipped(), canaries, scanned: Scanned::default() }
    }

    /// Searches what a store keeps.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read to its end.
    pub async fn store(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        store.each_text(&mut |StoredText { place, key, text }| self.text(place, &key, text)).await
    }

    /// Searches a file, line by line.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&mut self, path: &Path) -> std::io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        let (place, mut line, mut number) = (path.display().to_string(), Vec::new(), 0_u64);
        while file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
            number += 1;
            self.text(&place, &format!("line {number}"), &line);
            line.clear();
        }
        Ok(())
    }

    /// What was found.
    pub fn finish(self) -> Scanned {
        self.scanned
    }

    /// Searches one text.
    fn text(&mut self, place: &str, key: &str, text: &[u8]) {
        self.scanned.texts += 1;
        let read = readable(text);
        let found = self.recognisers.find(&read);
        for value in found.iter().filter(|value| matches!(value.kind, Kind::Card | Kind::Ssn)) {
            self.hit(place, key, value.kind.name().to_owned());
        }
        for (number, canary) in self.canaries.iter().enumerate() {
            let is_in = |text: &[u8]| memchr::memmem::find(text, canary.as_bytes()).is_some();
            if !canary.is_empty() && (is_in(text) || is_in(read.as_bytes())) {
                self.hit(place, key, format!("canary {}", number + 1));
            }
        }
    }

    /// Notes a hit.
    fn hit(&mut self, place: &str, key: &str, kind: String) {
        self.scanned.found += 1;
        if self.scanned.hits.len() < MAX_NAMED {
            // A canary may have been planted in an id.
            let is_told =
                self.canaries.iter().all(|canary| canary.is_empty() || !key.contains(canary.as_str()));
            let key = if is_told { key } else { "(not shown: the id holds a canary)" };
            self.scanned.hits.push(Hit { place: place.to_owned(), key: key.to_owned(), kind });
        }
    }
}

/// What is to be read of a text: of JSON the names, the texts and the numbers that are no measures, a line each; anything
/// else as it is.
fn readable(text: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            let mut lines = String::with_capacity(text.len());
            write_out("", &value, &mut lines);
            Cow::Owned(lines)
        }
        _ => String::from_utf8_lossy(text),
    }
}

/// Writes a value that stands under a name. The depth of JSON is bounded by its reader.
fn write_out(name: &str, value: &Value, lines: &mut String) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| write_out(name, value, lines)),
        Value::Array(items) => items.iter().for_each(|item| write_out(name, item, lines)),
        Value::Number(number) if number.is_f64() || is_measure(name) => lines.extend([name, "\n"]),
        Value::String(text) => lines.extend([name, ": ", text, "\n"]),
        value => lines.push_str(&format!("{name}: {value}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_searched_line_by_line_and_nothing_is_quoted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(
            file,
            "nothing here\ncard 4111 1111 1111 1111 and SSN 536-90-4399\nmy blue bird\n<CARD> 1.2.3.4"
        )
        .unwrap();
        let canaries = ["yellow".to_owned(), "blue bird".to_owned()];
        let mut scanner = Scanner::new(&canaries);
        scanner.file(file.path()).unwrap();
        let scanned = scanner.finish();
        let hits: Vec<_> = scanned.hits.iter().map(|hit| (hit.key.as_str(), hit.kind.as_str())).collect();
        assert_eq!(hits, [("line 2", "card"), ("line 2", "ssn"), ("line 3", "canary 2")]);
        assert_eq!((scanned.texts, scanned.found), (4, 3));
        assert!(!serde_json::to_string(&scanned).unwrap().contains("4111"));
    }

    #[test]
    fn of_json_the_values_are_read_and_measures_are_not() {
        let found = |text: &str| {
            let mut scanner = Scanner::new(&[]);
            scanner.text("place", "key", text.as_bytes());
            scanner.finish().found
        };
        assert_eq!(found(r#"{"seed": 4111111111111111, "latency_ms": {"total": 4532.719000001634}}"#), 0);
        assert_eq!(found(r#"{"order": 4111111111111111, "note": "\u0034111 1111 1111 1111"}"#), 2);
        assert_eq!(found(r#"{"ssn": "536904399", "4111 1111 1111 1111": true}"#), 2);
        assert_eq!(found(r#"{"note": "4111 1111 1111 1111""#), 1, "what is no JSON is read as it is");
    }
}
