//! What both databases share of the queue: how the next item is found, what a label changes, and what it may not.

use jiff::Timestamp;
use uuid::Uuid;

use super::{LabelEntry, LabelKind, Labelled, QueuedReview, Refusal, Saying, Scope};
use crate::domain::{Label, ReviewState, Said, Standing, id, review::settle};

/// How a database writes what differs.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// What numbers of parameters begin with.
    pub parameter: &'static str,
    /// Now, in Unix milliseconds.
    pub now: &'static str,
    /// Rows with a `name` of the list that is the third parameter.
    pub tenants: &'static str,
    /// The same of the fourth.
    pub features: &'static str,
}

/// The statement that finds the first free item: parameters are state, reviewer, tenants, features. One probe of an index for each
/// tenant and feature that is named, so that it costs the same however many items of others there are.
pub fn first_free(scope: &Scope, dialect: Dialect) -> String {
    let Dialect { parameter: p, now, tenants, features } = dialect;
    let first = |also: &str| {
        format!(
            "SELECT review_id FROM review_items r
             WHERE state <> 'closed' AND state = {p}1{also} AND held_until_ms <= {now}
                 AND NOT EXISTS (SELECT 1 FROM review_skips s WHERE s.review_id = r.review_id AND s.reviewer = {p}2)
                 AND NOT EXISTS (
                     SELECT 1 FROM standing_labels l WHERE l.evaluation_id = r.evaluation_id AND l.reviewer = {p}2)
             ORDER BY rank_ms, review_id LIMIT 1"
        )
    };
    let best = |also: &str, of: String| {
        let first = first(also);
        format!(
            "SELECT review_id FROM review_items WHERE review_id IN (SELECT ({first}) FROM {of})
             ORDER BY rank_ms, review_id LIMIT 1"
        )
    };
    match (&scope.tenants, &scope.features) {
        (None, None) => first(""),
        (Some(_), None) => best(" AND r.tenant_id = t.name", format!("{tenants} t")),
        (None, Some(_)) => best(" AND r.feature = f.name", format!("{features} f")),
        (Some(_), Some(_)) => best(
            " AND r.tenant_id = t.name AND r.feature = f.name",
            format!("{tenants} t CROSS JOIN {features} f"),
        ),
    }
}

/// The statement that reads a page of the items of a state, as an index has them: parameters are tenants, features, rank and id of
/// the item before the page, and how many. `items` selects from `review_items r`. The state stands in the text, and the id is that
/// of the row and not of the answer: else no index would do.
pub fn page(items: &str, within: &str, parameter: &str, state: ReviewState) -> String {
    // As the condition of the index has it: SQLite does not conclude it.
    let open = if state == ReviewState::Closed { "" } else { "state <> 'closed' AND " };
    let (p, state) = (parameter, state.as_str());
    format!(
        "{items} WHERE {open}state = '{state}' AND {within} AND (r.rank_ms, r.review_id) > ({p}3, {p}4)
         ORDER BY r.rank_ms, r.review_id LIMIT {p}5"
    )
}

/// The states that are listed: one when it is named, else those that are not closed.
pub(in crate::store) fn listed(state: Option<ReviewState>) -> Vec<ReviewState> {
    state.map_or_else(|| vec![ReviewState::Open, ReviewState::Disputed], |state| vec![state])
}

/// Pages of several states as one, in the order of the queue.
pub(in crate::store) fn merged(mut items: Vec<QueuedReview>, limit: u32) -> Vec<QueuedReview> {
    items.sort_unstable_by_key(|item| (item.rank_ms, item.review_id));
    items.truncate(limit as usize);
    items
}

/// An item that a transaction is about, with what it needs to know of the evaluation.
#[derive(Debug, Clone)]
pub(in crate::store) struct Changed {
    pub item: QueuedReview,
    /// Whose hold it is or was.
    pub token: Option<Uuid>,
    pub held_until_ms: i64,
    pub now_ms: i64,
    pub trace_id: String,
    pub span_id: Option<String>,
    pub occurred_at: Timestamp,
}

impl Changed {
    /// Whether somebody else holds it.
    pub fn is_held_from(&self, reviewer: &str) -> bool {
        self.held_until_ms > self.now_ms && self.item.held_by.as_deref() != Some(reviewer)
    }

    /// Why a reviewer cannot act under this hold.
    pub fn fences(&self, reviewer: &str, scope: &Scope, token: Option<Uuid>) -> Option<Refusal> {
        if !scope.holds(&self.item.tenant_id, &self.item.feature) {
            return Some(Refusal::Missing);
        }
        if self.item.state == ReviewState::Closed {
            return Some(Refusal::Closed);
        }
        match token {
            Some(token) if self.token != Some(token) => Some(Refusal::Lapsed),
            // A token is of one hold, and that of one reviewer.
            _ if self.is_held_from(reviewer) => Some(Refusal::Held),
            _ => None,
        }
    }

    /// Why a label is refused.
    pub fn refuses(&self, saying: &Saying, standing: &[LabelEntry]) -> Option<Refusal> {
        let has_said = standing.iter().any(|entry| entry.reviewer == saying.reviewer);
        if has_said && saying.scope.holds(&self.item.tenant_id, &self.item.feature) {
            return Some(Refusal::AlreadySaid);
        }
        let fenced = self.fences(&saying.reviewer, &saying.scope, saying.token);
        fenced.or(match (saying.adjudicates, self.item.state) {
            (true, ReviewState::Open) => Some(Refusal::NotDisputed),
            (false, ReviewState::Disputed) => Some(Refusal::Disputed),
            _ => None,
        })
    }

    /// What follows from the labels that stand: where the item stands, and the entry that counts.
    pub fn settled<'e>(&self, entries: &'e [LabelEntry]) -> (Labelled, Option<&'e LabelEntry>) {
        let settled = settle(&standing(entries), self.item.wanted);
        let counts = settled.counts.and_then(|at| entries.get(at));
        (Labelled { state: settled.state, decided: counts.map(|entry| entry.said) }, counts)
    }

    /// The label that sinks are sent of an entry.
    pub fn label(&self, entry: &LabelEntry) -> Label {
        let QueuedReview { evaluation_id, tenant_id, request_id, .. } = &self.item;
        Label {
            label_id: id::derived("label", &[&evaluation_id.to_string(), &entry.reviewer]),
            evaluation_id: *evaluation_id,
            tenant_id: tenant_id.clone(),
            request_id: request_id.clone(),
            trace_id: self.trace_id.clone(),
            span_id: self.span_id.clone(),
            occurred_at: self.occurred_at,
            labelled_at: Timestamp::from_millisecond(entry.at_ms).unwrap_or(self.occurred_at),
            label: entry.said,
            reviewer: entry.reviewer.clone(),
            note: entry.note.clone(),
        }
    }

    /// Id of what a sink is sent of an entry.
    pub fn delivery_id(&self, sink: &str, entry: &LabelEntry) -> Uuid {
        id::derived_at(self.occurred_at, "delivery", &[sink, &entry.saying_id.to_string()])
    }

    /// What the ledger says of an entry.
    pub fn detail(entry: &LabelEntry) -> String {
        format!("{} by {} ({} {})", entry.said.as_str(), entry.reviewer, entry.kind.as_str(), entry.entry_id)
    }
}

/// Labels that stand, as the rules see them.
pub fn standing(entries: &[LabelEntry]) -> Vec<Standing> {
    let one = |entry: &LabelEntry| Standing {
        reviewer: entry.reviewer.clone(),
        said: entry.said,
        adjudicates: entry.kind == LabelKind::Adjudication,
    };
    entries.iter().map(one).collect()
}

/// What sinks are told in place of a label that counted, once one that it rests on was taken back: they may have it already, and
/// nobody can tell any more. It is told under the name of who gave that label, whoever took theirs back: so it overwrites.
pub(in crate::store) fn withdrawn(undo: &LabelEntry, counted: &LabelEntry) -> LabelEntry {
    LabelEntry {
        said: Said::Unsure,
        note: "taken back".to_owned(),
        expected: None,
        reviewer: counted.reviewer.clone(),
        ..undo.clone()
    }
}
