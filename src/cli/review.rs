//! `aftercheck review list|next|label|skip|undo|adjudicate`: the review queue without pages.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use uuid::Uuid;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    domain::{ReviewState, Said},
    redaction::Redactor,
    review::{Answer, Case, Desk, DeskError, Opinion},
    service,
    store::reviewing::{Held, Labelled, QueuedReview, Scope},
};

/// Arguments of `review`.
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever asks for the next item holds it for [review] hold_secs: others get other items. Its token proves that it is still theirs.

Examples:
  aftercheck review next --reviewer ana
  aftercheck review label REVIEW_ID fail --reviewer ana --note 'the discount is 10 %'
  aftercheck review undo --reviewer ana
  aftercheck review adjudicate REVIEW_ID pass --reviewer eve")]
pub struct ReviewArgs {
    #[command(subcommand)]
    action: Action,
    /// Who you are.
    #[arg(long, global = true, env = "AFTERCHECK_REVIEWER", default_value = "", hide_default_value = true)]
    reviewer: String,
    /// Only calls of this tenant; may be given several times.
    #[arg(long, global = true)]
    tenant: Vec<String>,
    /// Only calls of this feature; may be given several times.
    #[arg(long, global = true)]
    feature: Vec<String>,
}

/// What to do at the queue.
#[derive(Debug, Subcommand)]
enum Action {
    /// List what waits, in the order of the queue.
    List {
        /// Only items in this state [default: open and disputed].
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Behind this item.
        #[arg(long, value_parser = super::id)]
        after: Option<Uuid>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Take the next item: the call, its evidence, and a token.
    Next {
        /// The next whose labels differ, for a decision.
        #[arg(long)]
        disputed: bool,
    },
    /// Say whether an answer holds.
    Label(Label),
    /// Let go of an item, which you do not get again.
    Skip {
        /// The item.
        #[arg(value_parser = super::id)]
        review_id: Uuid,
        /// Token of `review next`.
        #[arg(long, value_parser = super::id)]
        token: Option<Uuid>,
    },
    /// Take back your label of an item, or your last one, and have its item again.
    Undo {
        /// The item; without it, the one that you labelled last.
        #[arg(value_parser = super::id)]
        review_id: Option<Uuid>,
    },
    /// Decide an item whose labels differ.
    Adjudicate(Label),
}

/// A label.
#[derive(Debug, Args)]
struct Label {
    /// The item.
    #[arg(value_parser = super::id)]
    review_id: Uuid,
    /// What you say of the answer.
    #[arg(value_enum)]
    said: Word,
    /// Why.
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    /// What the answer should have been.
    #[arg(long)]
    expected: Option<String>,
    /// Token of `review next`.
    #[arg(long, value_parser = super::id)]
    token: Option<Uuid>,
}

/// What is said of an answer.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Word {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// Nobody can tell.
    Unsure,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// It wants a label.
    Open,
    /// Its labels differ.
    Disputed,
    /// It is decided.
    Closed,
}

/// Does it; false where there is no next item, or where it is refused.
pub async fn run(config: &Config, args: ReviewArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let redactor = service::redactor(config)?;
    let (databases, store) = open(config).await?;
    let named = |names: Vec<String>| (!names.is_empty()).then_some(names);
    // Calls are kept under the names that redaction leaves them.
    let tenants = args.tenant.iter().map(|tenant| redactor.identity(tenant).into_owned()).collect();
    let desk = Desk {
        store,
        config: config.review.clone(),
        sinks: config.sinks.keys().cloned().collect(),
        reviewer: args.reviewer,
        scope: Scope { tenants: named(tenants), features: named(args.feature) },
    };
    let done = match act(&desk, &redactor, args.action, format).await {
        Err(error) => match error.downcast::<DeskError>() {
            Ok(DeskError::Refused(refusal)) => {
                eprintln!("aftercheck: {refusal}");
                Ok(false)
            }
            Ok(DeskError::Store(error)) => Err(error.into()),
            Ok(error) => Err(error.into()),
            Err(error) => Err(error),
        },
        done => done,
    };
    databases.close().await;
    done
}

/// Does what is asked.
async fn act(desk: &Desk, redactor: &Redactor, action: Action, format: OutputFormat) -> anyhow::Result<bool> {
    match action {
        Action::List { state, after, limit } => {
            let state = state.map(|state| match state {
                State::Open => ReviewState::Open,
                State::Disputed => ReviewState::Disputed,
                State::Closed => ReviewState::Closed,
            });
            list(&desk.list(state, after, limit).await?, format)?;
        }
        Action::Next { disputed } => match desk.next(disputed).await? {
            Some(held) => show(desk, &held, format).await?,
            None => {
                eprintln!("aftercheck: nothing waits for you");
                return Ok(false);
            }
        },
        Action::Label(label) => said(desk.label(answer(label, redactor), false).await?, format)?,
        Action::Adjudicate(label) => said(desk.label(answer(label, redactor), true).await?, format)?,
        Action::Skip { review_id, token } => {
            desk.skip(review_id, token).await?;
            match format {
                OutputFormat::Json => say!("{}", json!({"review_id": review_id, "skipped": true})),
                OutputFormat::Table => say!("{review_id} skipped"),
            }
        }
        Action::Undo { review_id } => {
            let item = desk.undo(review_id).await?;
            match format {
                OutputFormat::Json => say!("{}", serde_json::to_string(&item)?),
                OutputFormat::Table if item.held_by.as_deref() == Some(&desk.reviewer) => {
                    say!("{} taken back, it is yours again", item.review_id)
                }
                OutputFormat::Table => say!("{} taken back", item.review_id),
            }
        }
    }
    Ok(true)
}

/// What is said, as it is kept: people quote calls, and more than stands in them.
fn answer(label: Label, redactor: &Redactor) -> Answer {
    let Label { review_id, said, note, expected, token } = label;
    let redacted = |text: &str| String::from_utf8_lossy(&redactor.payload(text.as_bytes())).into_owned();
    let said = match said {
        Word::Pass => Said::Pass,
        Word::Fail => Said::Fail,
        Word::Unsure => Said::Unsure,
    };
    Answer { review_id, token, said, note: redacted(&note), expected: expected.as_deref().map(redacted) }
}

/// Prints what became of a label.
fn said(labelled: Labelled, format: OutputFormat) -> anyhow::Result<()> {
    match (format, labelled.decided) {
        (OutputFormat::Json, _) => say!("{}", serde_json::to_string(&labelled)?),
        (OutputFormat::Table, Some(said)) => say!("decided: {}", said.as_str()),
        (OutputFormat::Table, None) if labelled.state == ReviewState::Disputed => {
            say!("labels differ: somebody else decides")
        }
        (OutputFormat::Table, None) => say!("one more label is wanted"),
    }
    Ok(())
}

/// Prints an item with its call and evidence; of what others said only the labels that differ, to who decides between them.
async fn show(desk: &Desk, held: &Held, format: OutputFormat) -> anyhow::Result<()> {
    let QueuedReview { tenant_id, request_id, .. } = &held.item;
    let Case { call, evaluation, opinions } = desk.look(&held.item).await?;
    if format == OutputFormat::Json {
        let content = call.as_ref().map(|call| &call.content);
        say!(
            "{}",
            json!({"review": held, "content": content, "evaluation": evaluation, "opinions": opinions})
        );
        return Ok(());
    }
    say!(
        "{} · {} · {} · {}",
        terminal::harmless(tenant_id),
        terminal::harmless(request_id),
        terminal::harmless(&held.item.feature),
        held.item.reason.as_str()
    );
    if let Some(call) = &call {
        say!("  input     {}", terminal::harmless(call.content.input.as_deref().unwrap_or("–")));
    }
    match (&call, &evaluation) {
        (Some(call), Some(evaluation)) => {
            say!("{}", terminal::evidence(call, evaluation, terminal::is_coloured()).trim_end())
        }
        _ => say!("  the call is not kept"),
    }
    for Opinion { said, note, .. } in &opinions {
        say!("  said      {} {}", said.as_str(), terminal::harmless(note));
    }
    let action = if opinions.is_empty() { "label" } else { "adjudicate" };
    say!(
        "{action} it: aftercheck review {action} {} pass|fail|unsure --reviewer NAME --token {}",
        held.item.review_id,
        held.token
    );
    Ok(())
}

/// Prints items.
fn list(items: &[QueuedReview], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for item in items {
            say!("{}", serde_json::to_string(item)?);
        }
        return Ok(());
    }
    let mut table =
        terminal::table(&["item", "why", "tenant", "request", "feature", "labels", "state", "held by"]);
    for item in items {
        table.add_row(vec![
            item.review_id.to_string(),
            item.reason.as_str().to_owned(),
            terminal::harmless(&item.tenant_id),
            terminal::harmless(&item.request_id),
            terminal::harmless(&item.feature),
            format!("{} of {}", item.labels, item.wanted),
            item.state.as_str().to_owned(),
            terminal::harmless(item.held_by.as_deref().unwrap_or("–")),
        ]);
    }
    say!("{table}");
    Ok(())
}
