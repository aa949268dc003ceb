//! The file of a data set. Rows stand in the order of their ids; a row never changes its split, because that is drawn from its id;
//! the next number is taken only where something has changed.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::alike::{self, Pair};
use crate::{
    domain::{Golden, id},
    redaction::Redactor,
};

/// Rows whose byte, modulo a hundred, is below it are for the last test and not for trying things out: 60 of 256, or 23 of a hundred,
/// for 0 to 55 are there three times and the rest twice. It stays as it is: a row never changes its split.
const TEST_BELOW: u8 = 20;

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Prompts are tried out with it.
    Dev,
    /// Nothing is tried out with it: it says how good the outcome is.
    Test,
}

impl Split {
    /// The split of a row.
    pub fn of(golden_id: Uuid) -> Self {
        let digest = id::derived("split", &[&golden_id.to_string()]);
        match digest.as_bytes()[0] % 100 < TEST_BELOW {
            true => Self::Test,
            false => Self::Dev,
        }
    }
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The row.
    #[serde(flatten)]
    pub golden: Golden,
    /// What it is for.
    pub split: Split,
}

/// A text of a row in which something personal was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Personal {
    /// The row.
    pub golden_id: Uuid,
    /// The field, as a JSON Pointer.
    pub field: String,
}

/// A data set that is ready to be written, and what speaks against it.
#[derive(Debug, Clone)]
pub struct Export {
    /// Its name.
    pub dataset: String,
    /// The file.
    pub content: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Rows of each split: dev, test.
    pub rows: (usize, usize),
    /// Texts with something personal: the file must not be written.
    pub personal: Vec<Personal>,
    /// Rows that are alike.
    pub alike: Vec<Pair>,
    /// Rows behind the first [`alike::MAX_ROWS`], of which nobody knows whether they are like another.
    pub not_compared: usize,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    New(PathBuf),
    /// The newest is the same already.
    Same(PathBuf),
}

impl Export {
    /// The file of these rows. Reviewers stand in it under the names that redaction leaves them, as calls do under their ids: their
    /// labels keep what they are called, so that a row with an e-mail address there could not be mended.
    pub fn of(dataset: &str, mut rows: Vec<Golden>, redactor: &Redactor) -> Self {
        rows.sort_by_key(|row| row.golden_id);
        for reviewer in rows.iter_mut().flat_map(|row| &mut row.reviewers) {
            *reviewer = redactor.identity(reviewer).into_owned();
        }
        let personal = rows.iter().flat_map(|row| personal(row, redactor)).collect();
        let (alike, not_compared) = (alike::pairs(&rows), alike::not_compared(rows.len()));
        let (mut content, mut counts) = (String::new(), (0, 0));
        for golden in rows {
            let split = Split::of(golden.golden_id);
            match split {
                Split::Dev => counts.0 += 1,
                Split::Test => counts.1 += 1,
            }
            // A row has no map with other keys than texts: writing it cannot fail.
            content.push_str(&json!(Line { golden, split }).to_string());
            content.push('\n');
        }
        let sha256 = id::sha256_hex(content.as_bytes());
        Self { dataset: dataset.to_owned(), content, sha256, rows: counts, personal, alike, not_compared }
    }

    /// Whether nothing speaks against the file, or only what is allowed.
    pub fn is_clean(&self, allow_alike: bool) -> bool {
        self.personal.is_empty() && (allow_alike || self.alike.is_empty())
    }

    /// Writes `<dataset>_vN.jsonl` in a folder, N being the next number, unless the newest is the same.
    ///
    /// # Errors
    /// When the folder cannot be read or the file not be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<Written> {
        fs::create_dir_all(folder)?;
        let newest = newest(folder, &self.dataset)?;
        let path = |number: u64| folder.join(file_name(&self.dataset, number));
        if newest > 0 && fs::read(path(newest))? == self.content.as_bytes() {
            return Ok(Written::Same(path(newest)));
        }
        let path = path(newest + 1);
        // Under another name until it is whole: what reads the folder never sees half of it.
        let begun = folder.join(format!(".{}.{}", self.dataset, Uuid::now_v7()));
        let mut file = fs::File::create_new(&begun)?;
        let written = file.write_all(self.content.as_bytes()).and_then(|()| file.sync_all());
        // Two that write at once do not take one number: a link does not overwrite.
        let linked = written.and_then(|()| fs::hard_link(&begun, &path));
        fs::remove_file(&begun)?;
        linked.map(|()| Written::New(path))
    }
}

/// The highest number of a data set's files in a folder; 0 without one.
fn newest(folder: &Path, dataset: &str) -> std::io::Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| number_of(dataset, name));
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// The name of a data set's file with this number.
pub fn file_name(dataset: &str, number: u64) -> String {
    format!("{dataset}_v{number}.jsonl")
}

/// The number of a file of this data set; none where the name is another's.
pub fn number_of(dataset: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(dataset)?.strip_prefix("_v")?.strip_suffix(".jsonl")?;
    // Numbers that were written another way, or that leave no next one, are of files that somebody else has made.
    let number = u64::from(number.parse::<u32>().ok()?);
    (file_name(dataset, number) == name).then_some(number)
}

/// Texts of a row that redaction would change: something personal has come in behind it, or the policy is another since.
fn personal(row: &Golden, redactor: &Redactor) -> Vec<Personal> {
    let texts = json!({
        "tenant_id": row.tenant_id, "request_id": row.request_id, "trace_id": row.trace_id, "span_id": row.span_id,
        "feature": row.feature, "model": row.model, "prompt_version": row.prompt_version,
        "input": row.input, "actual": row.actual, "expected": row.expected, "policy": row.policy, "notes": row.notes,
        "contexts": row.contexts, "output_schema": row.output_schema,
    });
    let mut redacted = texts.clone();
    redactor.message(&mut redacted);
    let fields = texts.as_object().into_iter().flatten();
    let changed = fields.filter(|(name, value)| redacted.get(name.as_str()) != Some(*value));
    changed.map(|(name, _)| Personal { golden_id: row.golden_id, field: format!("/{name}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::check::tests::row;

    #[test]
    fn files_of_others_have_no_number() {
        assert_eq!(number_of("d", "d_v12.jsonl"), Some(12));
        for other in
            ["d_v07.jsonl", "d_v+5.jsonl", "d_v4294967296.jsonl", "d_v.jsonl", "e_v1.jsonl", "d_v1.json"]
        {
            assert_eq!(number_of("d", other), None, "{other}");
        }
    }

    #[test]
    fn the_next_number_is_taken_where_something_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let redactor = Redactor::shipped();
        let export = |rows: Vec<Golden>| Export::of("d", rows, &redactor);
        let (one, two) = (row(1), row(2));
        let first = export(vec![two.clone(), one.clone()]);
        assert_eq!(first.content, export(vec![one.clone(), two.clone()]).content, "whatever the order");
        assert_eq!(first.rows.0 + first.rows.1, 2);
        let v1 = folder.path().join("d_v1.jsonl");
        assert_eq!(first.write(folder.path()).unwrap(), Written::New(v1.clone()));
        assert_eq!(first.write(folder.path()).unwrap(), Written::Same(v1.clone()));
        assert_eq!(id::sha256_hex(&fs::read(&v1).unwrap()), first.sha256);
        let v2 = folder.path().join("d_v2.jsonl");
        assert_eq!(export(vec![one]).write(folder.path()).unwrap(), Written::New(v2));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left there");
        let line: Line = serde_json::from_str(first.content.lines().next().unwrap()).unwrap();
        assert_eq!(line.split, Split::of(line.golden.golden_id));
    }

    #[test]
    fn what_is_personal_is_found_in_every_text_and_rows_that_are_alike_are_told() {
        let mut bad = row(1);
        bad.expected = Some("write to ana.lopez@example.com".into());
        bad.contexts[0].text = "card 4111 1111 1111 1111".into();
        bad.feature = "mail of eva@example.com".into();
        bad.prompt_version = "for eva@example.com".into();
        bad.model = "eva@example.com".into();
        bad.output_schema = Some(json!({"enum": ["eva@example.com"]}));
        let mut twin = row(2);
        twin.input = bad.input.clone();
        twin.actual = bad.actual.clone();
        let export = Export::of("d", vec![bad, twin], &Redactor::shipped());
        let mut fields: Vec<&str> = export.personal.iter().map(|one| one.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            ["/contexts", "/expected", "/feature", "/model", "/output_schema", "/prompt_version"]
        );
        assert_eq!(export.alike.len(), 1);
    }

    #[test]
    fn reviewers_who_sign_in_by_an_address_stand_in_the_file_by_a_pseudonym() {
        let mut golden = row(1);
        golden.reviewers = vec!["ana.lopez@example.com".into(), "ben".into()];
        let redactor = Redactor::shipped();
        let export = Export::of("d", vec![golden.clone()], &redactor);
        assert!(export.is_clean(false) && !export.content.contains("ana.lopez"), "{}", export.content);
        let line: Line = serde_json::from_str(&export.content).unwrap();
        let known = redactor.identity("ana.lopez@example.com").into_owned();
        assert_eq!(line.golden.reviewers, [known, "ben".into()], "the same person is the same in every row");
    }

    #[test]
    fn of_a_hundred_rows_23_are_for_the_test() {
        let test = (0..10_000).filter(|n| Split::of(Uuid::from_u128(*n)) == Split::Test).count();
        assert!((2_200..2_490).contains(&test), "{test}");
    }

    #[test]
    fn rows_that_are_not_compared_are_counted() {
        let rows = |count: usize| {
            let mut rows = vec![row(1); count];
            for (number, row) in (0_u128..).zip(&mut rows) {
                row.golden_id = Uuid::from_u128(number);
            }
            rows
        };
        assert_eq!(Export::of("d", rows(2), &Redactor::shipped()).not_compared, 0);
        assert_eq!(Export::of("d", rows(alike::MAX_ROWS + 3), &Redactor::shipped()).not_compared, 3);
    }
}
