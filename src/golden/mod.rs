//! The golden set: calls that people judged, kept to test the next release with.
//!
//! * [`Shelf`]: promotes, edits, removes and exports; what the command line and the pages have of it.
//! * [`check`]: what fresh answers to the same questions come to. Pure.
//! * [`export`]: the file of a data set: its order, its split, its checks, its number.
//! * [`alike`]: rows that say nearly the same.

pub mod alike;
pub mod check;
pub mod export;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    domain::{
        Addressed, Golden, Said,
        person::{self, MAX_NAME_BYTES},
        review::agreement,
    },
    redaction::Redactor,
    store::{
        Store, StoreError, Story,
        golden::{GoldenChange, GoldenEntry, GoldenPage, GoldenRow, MAX_GOLDENS, Shelved, Shelving},
        reviewing::{self, FinalLabel, LabelEntry, MAX_NOTE_BYTES, Scope},
    },
};

/// Longest name of a data set: it is part of a file's name.
pub const MAX_DATASET_BYTES: usize = 100;
/// Rows that are read at once for a file: their texts are in memory twice then.
const PAGE: u32 = 100;

/// Makes what people should hear of a row that is promoted, a notice for each route.
pub type Announce = Arc<dyn Fn(&Golden, Uuid) -> Vec<Addressed> + Send + Sync>;

/// Why something could not be done with the golden set. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there, or not for who asks.
    #[error("there is no such {0} for you")]
    Missing(&'static str),
    /// Several tenants have a call of this id.
    #[error("several tenants have a call of this id: name the tenant")]
    Ambiguous,
    /// Nothing counts of what people said.
    #[error("people have not decided it yet: label it first, see `aftercheck review`")]
    Unlabelled,
    /// People could not tell.
    #[error("people said that nobody can tell: a test has to know what is right")]
    Unsure,
    /// The answer was cut when the call was kept.
    #[error(
        "the answer is kept in part only: promote calls of a tenant whose answers [retention] keeps whole"
    )]
    Cut,
    /// Somebody else was there first.
    #[error("somebody else has changed it since: look at it again")]
    Stale,
    /// A text does not fit.
    #[error("{what}: need {need}")]
    Unfit {
        /// Which.
        what: &'static str,
        /// What it needs.
        need: String,
    },
    /// The data set has more than is wanted at most.
    #[error("the data set has more than {rows} rows or {} MB: make the file with `aftercheck gold export`", .bytes / 1_000_000)]
    TooLarge {
        /// Rows that are wanted at most.
        rows: usize,
        /// Bytes of texts that are wanted at most.
        bytes: usize,
    },
    /// Others are served first.
    #[error("other files are being made: try again in a moment")]
    Busy,
    /// Our code panicked on a row.
    #[error("making the file panicked")]
    Panicked,
}

/// Most of a data set that is wanted in one file.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Rows.
    pub rows: usize,
    /// Bytes of their texts.
    pub bytes: usize,
}

impl Most {
    /// All of it, however much.
    pub const ALL: Self = Self { rows: usize::MAX, bytes: usize::MAX };
}

/// Which call is promoted.
#[derive(Debug, Clone)]
pub enum Which {
    /// That of an evaluation.
    Evaluation(Uuid),
    /// That of a review item.
    Review(Uuid),
    /// One by its id; of this tenant when given. Where several versions evaluated it, the newest that people decided.
    Call(Option<String>, String),
}

/// What is said at a promotion beside what people said in review.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What the answer should have been; without it the later counts of what the reviewer wrote and what the row has.
    pub expected: Option<String>,
    /// What the answer has to keep to, where no one answer is the right one.
    pub policy: Option<String>,
}

/// What became of a promotion.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Promoted {
    /// Whether the row is new, changed, or was there word for word.
    pub outcome: Shelved,
    /// The row.
    pub golden: Golden,
}

/// The golden set in the hands of one person.
#[derive(Clone)]
pub struct Shelf {
    /// Where rows are.
    pub store: Arc<dyn Store>,
    /// Takes what is personal out of what people write.
    pub redactor: Arc<Redactor>,
    /// Names of the sinks that are told.
    pub sinks: Vec<String>,
    /// Makes notices.
    pub announce: Announce,
    /// Who it is.
    pub by: String,
    /// What they may see.
    pub scope: Scope,
}

impl Shelf {
    /// Makes a row of a call that people decided, or makes it anew: what is expected stays as the row has it, unless it is said
    /// otherwise, or people have decided the call since the row was changed last and wrote what they expect.
    ///
    /// # Errors
    /// All of [`GoldenError`].
    pub async fn promote(
        &self,
        which: &Which,
        dataset: &str,
        wanted: Wanted,
    ) -> Result<Promoted, GoldenError> {
        let by = self.name()?;
        let dataset = name_of_dataset(dataset)?;
        let mut label = self.decided(which).await?;
        if label.entry.said == Said::Unsure {
            return Err(GoldenError::Unsure);
        }
        self.fill(&mut label.entry).await?;
        let mut golden = self.row(dataset, &label).await?;
        let before = self.store.golden(golden.golden_id).await?;
        let expected = self.written("expected answer", wanted.expected, &golden.tenant_id)?;
        let policy = self.written("policy", wanted.policy, &golden.tenant_id)?;
        golden.expected = expected.or_else(|| expected_of(before.as_ref(), &label));
        golden.policy = policy.or_else(|| before.as_ref().and_then(|row| row.golden.policy.clone()));
        let evaluation_id = label.entry.evaluation_id;
        let notices = (self.announce)(&golden, evaluation_id);
        let (change, over) = (GoldenChange::Promoted, before.map(|row| row.digest));
        let shelving = Shelving {
            golden,
            evaluation_id,
            by: by.to_owned(),
            change,
            over,
            label_entry: Some(label.entry.entry_id),
            sinks: self.sinks.clone(),
            notices,
        };
        let outcome = self.shelve(&shelving).await?;
        Ok(Promoted { outcome, golden: shelving.golden })
    }

    /// Fills what the label that counts leaves empty from the newest that says the same: who agrees, or decides, writes less.
    async fn fill(&self, entry: &mut LabelEntry) -> Result<(), GoldenError> {
        let standing = self.store.standing_labels(entry.evaluation_id).await?;
        for other in standing.into_iter().rev().filter(|other| other.said == entry.said) {
            if entry.expected.as_deref().is_none_or(str::is_empty) {
                entry.expected = other.expected;
            }
            if entry.note.is_empty() {
                entry.note = other.note;
            }
        }
        Ok(())
    }

    /// Rows in the order of their ids: of one data set when given, behind one when given, at most `limit`.
    ///
    /// # Errors
    /// [`GoldenError::Store`].
    pub async fn list(
        &self,
        dataset: Option<&str>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<GoldenRow>, GoldenError> {
        let (scope, dataset) = (self.scope.clone(), dataset.map(str::to_owned));
        Ok(self.store.goldens(&GoldenPage { scope, dataset, after, limit }).await?)
    }

    /// One row, and its history, newest first.
    ///
    /// # Errors
    /// [`GoldenError::Missing`], [`GoldenError::Store`].
    pub async fn show(&self, golden_id: Uuid) -> Result<(GoldenRow, Vec<GoldenEntry>), GoldenError> {
        let row = self.store.golden(golden_id).await?;
        let holds = |row: &GoldenRow| self.scope.holds(&row.golden.tenant_id, &row.golden.feature);
        let row = row.filter(holds).ok_or(GoldenError::Missing("row"))?;
        Ok((row, self.store.golden_history(Some(golden_id), MAX_GOLDENS).await?))
    }

    /// Changes what is expected of a row; what is not given stays, an empty text takes it away. `over` is the digest of the row that
    /// who edits has read: where it is given, and somebody else has changed the row since, nothing is changed.
    ///
    /// # Errors
    /// All of [`GoldenError`].
    pub async fn edit(
        &self,
        golden_id: Uuid,
        wanted: Wanted,
        over: Option<String>,
    ) -> Result<Promoted, GoldenError> {
        let by = self.name()?.to_owned();
        let (row, _) = self.show(golden_id).await?;
        let mut golden = row.golden;
        if wanted.expected.is_some() {
            golden.expected = self.written("expected answer", wanted.expected, &golden.tenant_id)?;
        }
        if wanted.policy.is_some() {
            golden.policy = self.written("policy", wanted.policy, &golden.tenant_id)?;
        }
        let (evaluation_id, change) = (row.evaluation_id, GoldenChange::Edited);
        let over = Some(over.unwrap_or(row.digest));
        let (label_entry, sinks, notices) = (None, self.sinks.clone(), Vec::new());
        let shelving = Shelving { golden, evaluation_id, by, change, over, label_entry, sinks, notices };
        let outcome = self.shelve(&shelving).await?;
        Ok(Promoted { outcome, golden: shelving.golden })
    }

    /// Takes a row out of the set. Sinks that have it keep it.
    ///
    /// # Errors
    /// [`GoldenError::Missing`], [`GoldenError::Store`], [`GoldenError::Unfit`].
    pub async fn remove(&self, golden_id: Uuid) -> Result<(), GoldenError> {
        let by = self.name()?;
        self.show(golden_id).await?;
        match self.store.unshelve(golden_id, by).await? {
            true => Ok(()),
            false => Err(GoldenError::Missing("row")),
        }
    }

    /// All rows of a data set that the person may see, at most so many and so many bytes of texts, checked and in the order of the
    /// file. `turn` is what nobody else is to have meanwhile: it is given back when the work is over, though nobody waits for the
    /// file any more.
    ///
    /// # Errors
    /// [`GoldenError::Store`], [`GoldenError::Unfit`], [`GoldenError::TooLarge`], [`GoldenError::Panicked`].
    pub async fn export(
        &self,
        dataset: &str,
        most: Most,
        turn: impl Send + 'static,
    ) -> Result<export::Export, GoldenError> {
        let dataset = name_of_dataset(dataset)?;
        let (mut rows, mut bytes): (Vec<Golden>, usize) = (Vec::new(), 0);
        loop {
            let after = rows.last().map(|row| row.golden_id);
            let page = self.list(Some(dataset), after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            bytes += page.iter().map(|row| text_bytes(&row.golden)).sum::<usize>();
            rows.extend(page.into_iter().map(|row| row.golden));
            if rows.len() > most.rows || bytes > most.bytes {
                return Err(GoldenError::TooLarge { rows: most.rows, bytes: most.bytes });
            }
            if is_last {
                // Texts are searched, and each row is compared with each: seconds, in which others must go on.
                let (dataset, redactor) = (dataset.to_owned(), Arc::clone(&self.redactor));
                let exporting = spawn_blocking(move || {
                    let export = export::Export::of(&dataset, rows, &redactor);
                    drop(turn);
                    export
                });
                return exporting.await.map_err(|_| GoldenError::Panicked);
            }
        }
    }

    /// Writes a row.
    async fn shelve(&self, shelving: &Shelving) -> Result<Shelved, GoldenError> {
        match self.store.shelve(shelving).await? {
            Shelved::Missing => Err(GoldenError::Missing("call")),
            Shelved::Stale => Err(GoldenError::Stale),
            outcome => Ok(outcome),
        }
    }

    /// What counts of what people said of a call.
    async fn decided(&self, which: &Which) -> Result<FinalLabel, GoldenError> {
        let ids = match which {
            Which::Evaluation(id) => vec![*id],
            Which::Review(id) => {
                let item = self.store.review(*id).await?;
                let item = item.filter(|item| self.scope.holds(&item.tenant_id, &item.feature));
                vec![item.ok_or(GoldenError::Missing("review item"))?.evaluation_id]
            }
            Which::Call(tenant, request) => {
                let mut stories = self.store.stories(tenant.as_deref(), request).await?;
                stories.retain(|story| self.sees(story));
                match stories.as_slice() {
                    [] => return Err(GoldenError::Missing("call")),
                    [story] => story.evaluations.iter().rev().map(|one| one.evaluation_id).collect(),
                    _ => return Err(GoldenError::Ambiguous),
                }
            }
        };
        for id in ids {
            if let Some(label) = self.store.final_label(id).await? {
                return match self.scope.holds(&label.tenant_id, &label.feature) {
                    true => Ok(label),
                    false => Err(GoldenError::Missing("call")),
                };
            }
        }
        Err(GoldenError::Unlabelled)
    }

    /// Whether something of a call is to be seen.
    fn sees(&self, story: &Story) -> bool {
        story.evaluations.iter().any(|one| self.scope.holds(&one.tenant_id, &one.feature))
    }

    /// The row of a call that was decided.
    async fn row(&self, dataset: &str, label: &FinalLabel) -> Result<Golden, GoldenError> {
        let FinalLabel { tenant_id, request_id, entry, .. } = label;
        let story = self.store.stories(Some(tenant_id), request_id).await?.into_iter().next();
        let received = story.and_then(|story| story.received).ok_or(GoldenError::Missing("call"))?;
        if received.cut.is_some() {
            return Err(GoldenError::Cut);
        }
        let standing = reviewing::standing(&self.store.standing_labels(entry.evaluation_id).await?);
        let agreement = agreement(&standing, entry.said);
        let call = received.call;
        Ok(Golden {
            golden_id: Golden::id(dataset, tenant_id, request_id),
            dataset: dataset.to_owned(),
            tenant_id: tenant_id.clone(),
            request_id: request_id.clone(),
            trace_id: call.trace_id,
            span_id: call.span_id,
            feature: call.feature,
            occurred_at: call.occurred_at,
            input: call.content.input.unwrap_or_default(),
            contexts: call.content.contexts,
            actual: call.content.answer,
            output_schema: call.content.output_schema,
            expected: None,
            policy: None,
            label: entry.said,
            notes: entry.note.clone(),
            reviewers: standing.into_iter().map(|one| one.reviewer).collect(),
            agreement,
            evaluator_version: label.evaluator_version.clone(),
            prompt_version: call.prompt_version,
            model: call.model_resolved,
            source: "production".to_owned(),
        })
    }

    /// A text that a person wrote of a tenant's call, as it is kept: without what is personal in calls of that tenant. None where it is
    /// empty.
    fn written(
        &self,
        what: &'static str,
        text: Option<String>,
        tenant_id: &str,
    ) -> Result<Option<String>, GoldenError> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        if text.len() > MAX_NOTE_BYTES {
            return Err(GoldenError::Unfit { what, need: format!("at most {MAX_NOTE_BYTES} bytes") });
        }
        Ok(redacted(&self.redactor, &text, tenant_id))
    }

    /// The person's name, where it can be one.
    fn name(&self) -> Result<&str, GoldenError> {
        let need = || format!("1 to {MAX_NAME_BYTES} bytes without control characters");
        person::name(&self.by)
            .ok_or_else(|| GoldenError::Unfit { what: "your name (--by NAME)", need: need() })
    }
}

/// A text about a tenant's call without what is personal, as the file of its data set is searched: exceptions of the tenant count,
/// and of environments, of which a row knows none, those of production.
fn redacted(redactor: &Redactor, text: &str, tenant_id: &str) -> Option<String> {
    let mut written = json!({ "tenant_id": tenant_id, "text": text });
    redactor.message(&mut written);
    written["text"].as_str().map(str::to_owned)
}

/// What is expected of an answer where nobody says it at the promotion. The later word counts: that of the row where it was changed
/// after people decided, even where it takes the text away, else that of who decided.
fn expected_of(before: Option<&GoldenRow>, label: &FinalLabel) -> Option<String> {
    let said = label.entry.expected.clone();
    let Some(row) = before else { return said };
    let kept = row.golden.expected.clone();
    if label.decided_ms > row.changed_ms {
        return said.or(kept);
    }
    // Of another evaluation the row has not seen what people said.
    let has_seen = row.evaluation_id == label.entry.evaluation_id;
    if has_seen { kept } else { kept.or(said) }
}

/// A name of a data set that can be one: it is part of a file's name.
fn name_of_dataset(name: &str) -> Result<&str, GoldenError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=MAX_DATASET_BYTES).contains(&name.len())
        && name.chars().all(is_plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let need = || format!("1 to {MAX_DATASET_BYTES} letters, digits, dots, dashes and underscores");
    if fits { Ok(name) } else { Err(GoldenError::Unfit { what: "name of the data set", need: need() }) }
}

/// Bytes of the texts of a row.
fn text_bytes(golden: &Golden) -> usize {
    let contexts = golden.contexts.iter().map(|context| context.id.len() + context.text.len());
    let asked = [&golden.expected, &golden.policy].into_iter().flatten().map(String::len);
    golden.input.len()
        + golden.actual.len()
        + golden.notes.len()
        + contexts.sum::<usize>()
        + asked.sum::<usize>()
        + golden.output_schema.as_ref().map_or(0, |schema| schema.to_string().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{DecidedBy, Verdict},
        golden::check::tests::row,
        store::reviewing::{LabelEntry, LabelKind},
    };

    /// What people said of an evaluation at a moment.
    fn label(evaluation: u128, decided_ms: i64, expected: Option<&str>) -> FinalLabel {
        let entry = LabelEntry {
            entry_id: 1,
            saying_id: Uuid::from_u128(1),
            evaluation_id: Uuid::from_u128(evaluation),
            reviewer: "ana".into(),
            kind: LabelKind::Label,
            said: Said::Fail,
            note: String::new(),
            expected: expected.map(str::to_owned),
            at_ms: decided_ms,
        };
        FinalLabel {
            entry,
            decided_ms,
            tenant_id: "acme".into(),
            request_id: "r1".into(),
            feature: "shop".into(),
            evaluator_version: "v".into(),
            verdict: Verdict::Review,
            decided_by: DecidedBy::Nli,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn promoted_again_the_later_word_counts() {
        let changed_at_10 = |expected: Option<&str>| GoldenRow {
            golden: Golden { expected: expected.map(str::to_owned), ..row(1) },
            evaluation_id: Uuid::from_u128(1),
            digest: String::new(),
            promoted_ms: 1,
            changed_ms: 10,
        };
        let expected = |row: Option<&GoldenRow>, label: &FinalLabel| expected_of(row, label);
        let (edited, emptied) = (changed_at_10(Some("edited")), changed_at_10(None));
        let (before, after) = (label(1, 5, Some("said")), label(1, 20, Some("said")));
        assert_eq!(expected(None, &before).as_deref(), Some("said"));
        assert_eq!(expected(Some(&edited), &before).as_deref(), Some("edited"));
        assert_eq!(expected(Some(&emptied), &before), None, "it was taken away");
        assert_eq!(expected(Some(&edited), &after).as_deref(), Some("said"));
        assert_eq!(expected(Some(&edited), &label(1, 20, None)).as_deref(), Some("edited"));
        assert_eq!(expected(Some(&emptied), &label(2, 5, Some("said"))).as_deref(), Some("said"));
    }

    #[test]
    fn exceptions_of_a_tenant_hold_for_what_people_write_of_its_calls() {
        let config = json!({
            "kinds": {"email": "keep"}, "exceptions": [{"tenant_id": "acme", "kinds": {"email": "mask"}}],
        });
        let redactor = Redactor::new(&serde_json::from_value(config).unwrap()).unwrap();
        let text = "write to ana.lopez@example.com";
        assert_eq!(redacted(&redactor, text, "globex").unwrap(), text);
        assert!(!redacted(&redactor, text, "acme").unwrap().contains("ana.lopez"));
    }

    #[test]
    fn the_name_of_a_data_set_leads_nowhere_else() {
        assert!(name_of_dataset("support-2026.q4_b").is_ok());
        for name in ["", ".hidden", "-x", "a/b", "..", "a b", "ä", &"a".repeat(101)] {
            assert!(name_of_dataset(name).is_err(), "{name}");
        }
    }
}
