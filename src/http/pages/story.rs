//! The story of a call in the words of its page.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    answer::Exhibit,
    text::{Shown, shown},
    top::{moment, plain},
};
use crate::{
    domain::{Evaluation, ReviewState, StageReport},
    store::{DeadLetterRow, Story, reviewing::LabelEntry},
};

/// Most rows of each list.
const MAX_ROWS: usize = 60;

/// What is told of a call.
pub(super) struct Told {
    /// Its tenant.
    pub tenant: Shown,
    /// The producer's id.
    pub request: Shown,
    /// What is known of the call, by name.
    pub facts: Vec<(&'static str, Shown)>,
    /// What was cut, in words.
    pub cut: String,
    /// The evaluation that is shown; nil where there is none.
    pub evaluation_id: Uuid,
    /// The evaluations, newest first.
    pub evaluations: Vec<Decided>,
    /// What there is to see of the call under the evaluation that is shown.
    pub exhibit: Exhibit,
    /// The stages of that evaluation.
    pub stages: Vec<Step>,
    /// Items of its review: id, why it is there, and where that stands.
    pub reviews: Vec<(Uuid, String)>,
    /// What people said; nothing before an item is decided.
    pub labels: Vec<Label>,
    /// Whether an item is not decided yet.
    pub is_open: bool,
    /// Deliveries to sinks.
    pub deliveries: Vec<Sent>,
    /// Dead letters of it.
    pub letters: Vec<Letter>,
    /// What happened, newest first.
    pub ledger: Vec<(String, String, Shown)>,
}

/// One evaluation.
pub(super) struct Decided {
    /// Its id.
    pub id: Uuid,
    /// Whether it is the one that is shown.
    pub is_shown: bool,
    /// Verdict, as in JSON.
    pub verdict: &'static str,
    /// The same for people.
    pub said: String,
    /// Who decided it, and why.
    pub why: String,
    /// Faithfulness in digits.
    pub faithfulness: String,
    /// The version.
    pub version: String,
    /// When.
    pub at: String,
}

/// One stage.
pub(super) struct Step {
    /// Its name.
    pub stage: &'static str,
    /// How it ended.
    pub outcome: String,
    /// Milliseconds.
    pub ms: String,
}

/// One label.
pub(super) struct Label {
    /// When.
    pub at: String,
    /// What was done.
    pub kind: String,
    /// What was said.
    pub said: &'static str,
    /// By whom.
    pub by: Shown,
    /// Why.
    pub note: Shown,
}

/// One delivery.
pub(super) struct Sent {
    /// The sink.
    pub sink: String,
    /// How it stands.
    pub state: Shown,
    /// Attempts so far.
    pub attempts: i64,
}

/// One dead letter.
pub(super) struct Letter {
    /// Its id.
    pub id: Uuid,
    /// What is wrong, where, and what to do.
    pub told: Shown,
}

impl Told {
    /// The story, with this evaluation of the call where it has it, else the newest.
    pub(super) fn of(story: &Story, evaluation_id: Uuid) -> Self {
        let chosen = story.evaluations.iter().find(|one| one.evaluation_id == evaluation_id);
        let chosen = chosen.or(story.evaluations.last());
        let call = story.received.as_ref().map(|received| &received.call);
        let is_open = story.reviews.iter().any(|review| review.state != ReviewState::Closed.as_str());
        Self {
            tenant: shown(story.tenant_id.as_deref().unwrap_or("unknown tenant"), 1_000),
            request: shown(&story.request_id, 1_000),
            facts: facts(story),
            cut: cut(story),
            evaluation_id: chosen.map(|one| one.evaluation_id).unwrap_or_default(),
            evaluations: story
                .evaluations
                .iter()
                .rev()
                .take(MAX_ROWS)
                .map(|one| decided(one, chosen))
                .collect(),
            exhibit: match (call, chosen) {
                (Some(call), Some(chosen)) => Exhibit::of(call, chosen),
                _ => Exhibit::default(),
            },
            stages: chosen.map(steps).unwrap_or_default(),
            reviews: story
                .reviews
                .iter()
                .take(MAX_ROWS)
                .map(|one| {
                    let told =
                        format!("{} · {} · probability {}", one.state, plain(&one.reason), one.probability);
                    (one.review_id, told)
                })
                .collect(),
            labels: story.labels.iter().rev().take(MAX_ROWS).map(label).collect(),
            is_open,
            deliveries: deliveries(story),
            letters: story.dead_letters.iter().take(10).map(letter).collect(),
            ledger: ledger(story),
        }
    }
}

/// What is known of the call itself.
fn facts(story: &Story) -> Vec<(&'static str, Shown)> {
    let Some(received) = &story.received else { return Vec::new() };
    let call = &received.call;
    let short = |text: &str| shown(text, 400);
    vec![
        ("Feature", short(&call.feature)),
        ("Happened", short(&moment(call.occurred_at.as_millisecond()))),
        ("Received", short(&format!("{} from {}", moment(received.at_ms), received.source))),
        ("Model", short(&call.model_resolved)),
        ("Prompt", short(&call.prompt_version)),
        ("Trace", short(&call.trace_id)),
        ("Contexts", short(&call.content.contexts.len().to_string())),
        ("Inclusion probability", short(&call.sampling.probability.to_string())),
    ]
}

/// What of the call is not kept, in words.
fn cut(story: &Story) -> String {
    match &story.received {
        Some(received) => received.cut.as_ref().map_or_else(String::new, |cut| {
            let kept = received.call.content.answer.chars().count();
            format!("{kept} of {} characters of the answer are kept.", cut.answer_chars)
        }),
        None if story.ledger.iter().any(|entry| entry.event == "erased") => "The call was erased.".to_owned(),
        None => "The call is not decided yet, or could not be read.".to_owned(),
    }
}

/// An evaluation as a row.
fn decided(one: &Evaluation, chosen: Option<&Evaluation>) -> Decided {
    let reasons: BTreeSet<String> = one.reasons.iter().map(|reason| plain(reason.as_str())).collect();
    Decided {
        id: one.evaluation_id,
        is_shown: chosen.is_some_and(|chosen| chosen.evaluation_id == one.evaluation_id),
        verdict: one.verdict.as_str(),
        said: plain(one.verdict.as_str()),
        why: format!("{} · {}", one.decided_by.as_str(), Vec::from_iter(reasons).join(", ")),
        faithfulness: one.faithfulness.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}")),
        version: one.evaluator_version.clone(),
        at: moment(one.evaluated_at.as_millisecond()),
    }
}

/// The stages of an evaluation.
fn steps(one: &Evaluation) -> Vec<Step> {
    let step = |stage: &StageReport| Step {
        stage: stage.stage.as_str(),
        outcome: format!("{} {}", plain(stage.outcome.as_str()), plain(&stage.detail)).trim().to_owned(),
        ms: format!("{:.1}", stage.ms),
    };
    one.stages.iter().map(step).collect()
}

/// A label as a row.
fn label(entry: &LabelEntry) -> Label {
    Label {
        at: moment(entry.at_ms),
        kind: entry.kind.as_str().to_owned(),
        said: entry.said.as_str(),
        by: shown(&entry.reviewer, 400),
        note: shown(&entry.note, 600),
    }
}

/// Deliveries as rows.
fn deliveries(story: &Story) -> Vec<Sent> {
    let rows = story.deliveries.iter().take(MAX_ROWS);
    rows.map(|row| Sent {
        sink: row.sink.clone(),
        state: match (row.delivered_ms, &row.dead_reason) {
            (Some(at), _) => shown(&format!("delivered {}", moment(at)), 200),
            (None, Some(reason)) => shown(&format!("given up: {reason}"), 600),
            (None, None) => shown(&format!("open {}", row.last_error.as_deref().unwrap_or_default()), 600),
        },
        attempts: row.attempts,
    })
    .collect()
}

/// A dead letter as a row.
fn letter(row: &DeadLetterRow) -> Letter {
    let told = format!("{} at {}: {} · {}", plain(&row.class), row.place(), row.detail, row.remedy);
    Letter { id: row.dead_letter_id, told: shown(&told, 1_000) }
}

/// What happened, newest first; who reads it may look up the rest with `aftercheck why`.
fn ledger(story: &Story) -> Vec<(String, String, Shown)> {
    let rows = story.ledger.iter().rev().take(MAX_ROWS);
    rows.map(|entry| (moment(entry.at_ms), plain(&entry.event), shown(&entry.detail, 400))).collect()
}
