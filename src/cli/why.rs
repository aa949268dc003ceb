//! `aftercheck why REQUEST_ID`

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    domain::{Call, Evaluation, JudgeFailure, Judgement, RuleOutcome, placeholder},
    redaction::Redactor,
    service,
    store::Story,
};

/// Arguments of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The producer's id of the call.
    request_id: String,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
}

/// Tells the story; false when nothing is known of the call.
pub async fn run(config: &Config, args: WhyArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let redactor = service::redactor(config)?;
    let tenant = args.tenant.as_deref().map(|tenant| redactor.identity(tenant));
    let stories = store.stories(tenant.as_deref(), &redactor.identity(&args.request_id)).await?;
    databases.close().await;
    if stories.is_empty() {
        eprintln!(
            "aftercheck: {}: never received here, or still in the queue",
            terminal::harmless(&args.request_id)
        );
    }
    match format {
        OutputFormat::Json => say!("{}", serde_json::to_string(&stories)?),
        OutputFormat::Table => {
            for story in &stories {
                say!("{}", told(story, &redactor).trim_end());
            }
        }
    }
    Ok(!stories.is_empty())
}

/// How many different values placeholders stand for in a call, by kind.
fn redacted(call: &Call, redactor: &Redactor) -> String {
    let text = match serde_json::to_string(call) {
        Ok(text) => text,
        Err(error) => return format!("not known: {error}"),
    };
    let counts = redactor.kinds().filter_map(|kind| {
        let found: BTreeSet<&str> = placeholder::find(&text, kind).iter().map(|one| one.text).collect();
        (!found.is_empty()).then(|| format!("{kind} {}", found.len()))
    });
    let counts = Vec::from_iter(counts);
    if counts.is_empty() { "no placeholders".into() } else { counts.join(", ") }
}

/// A story as text.
pub fn told(story: &Story, redactor: &Redactor) -> String {
    let tenant = story.tenant_id.as_deref().unwrap_or("unknown tenant");
    let mut out = format!("{} · {}\n", terminal::harmless(tenant), terminal::harmless(&story.request_id));
    match &story.received {
        Some(received) => {
            let call = &received.call;
            out += &format!(
                "  received  {} from {} · feature {} · model {} · {} contexts · inclusion probability {}\n",
                time(received.at_ms),
                received.source,
                terminal::harmless(&call.feature),
                terminal::harmless(&call.model_resolved),
                call.content.contexts.len(),
                call.sampling.probability
            );
            out += &format!("  redacted  {}\n", redacted(call, redactor));
            if let Some(cut) = &received.cut {
                let kept = call.content.answer.chars().count();
                out += &format!(
                    "  cut       {kept} of {} characters of the answer are kept\n",
                    cut.answer_chars
                );
            }
        }
        None if story.ledger.iter().any(|entry| entry.event == "erased") => {
            out += "  received  yes, and erased\n"
        }
        None if story.dead_letters.is_empty() => {
            out += "  received  yes, and not decided yet: see the ledger\n"
        }
        None => out += "  received  no readable call\n",
    }
    for evaluation in &story.evaluations {
        out += &evaluated(story, evaluation);
    }
    out += &ended(story);
    out.push('\n');
    out
}

/// What became of the call after its evaluations: review, deliveries, dead letters, history.
fn ended(story: &Story) -> String {
    let mut out = String::new();
    for review in &story.reviews {
        out += &format!(
            "  review    {} · {} · probability {}\n",
            review.state, review.reason, review.probability
        );
    }
    for entry in &story.labels {
        out += &format!(
            "  label     {} {} · {} by {} · {}\n",
            time(entry.at_ms),
            entry.kind.as_str(),
            entry.said.as_str(),
            terminal::harmless(&entry.reviewer),
            terminal::harmless(&entry.note)
        );
    }
    for row in &story.deliveries {
        let state = match (row.delivered_ms, &row.dead_reason) {
            (Some(at), _) => format!("delivered {}", time(at)),
            (None, Some(reason)) => format!("given up: {}", terminal::harmless(reason)),
            (None, None) => format!(
                "open, {} attempts {}",
                row.attempts,
                terminal::harmless(row.last_error.as_deref().unwrap_or_default())
            ),
        };
        out += &format!("  sink      {} · {state}\n", row.sink);
    }
    for letter in &story.dead_letters {
        out += &format!(
            "  dead      {} · {} at {} · {} · {} · {}\n",
            time(letter.created_ms),
            letter.class,
            terminal::harmless(letter.place()),
            terminal::harmless(&letter.detail),
            letter.remedy,
            letter.dead_letter_id
        );
    }
    for entry in &story.ledger {
        out += &format!(
            "  ledger    {} {} {}\n",
            time(entry.at_ms),
            entry.event,
            terminal::harmless(&entry.detail)
        );
    }
    out.push('\n');
    out
}

/// One evaluation with stages, rules and evidence.
fn evaluated(story: &Story, evaluation: &Evaluation) -> String {
    let reasons: Vec<&str> = evaluation.reasons.iter().map(|reason| reason.as_str()).collect();
    let mut out = format!(
        "  verdict   {} · decided by {:?} · {} · evaluator {}\n",
        evaluation.verdict.as_str(),
        evaluation.decided_by,
        reasons.join(", "),
        evaluation.evaluator_version
    );
    for stage in &evaluation.stages {
        out += &format!(
            "  stage     {} · {:?} {} · {:.2} ms\n",
            stage.stage.as_str(),
            stage.outcome,
            stage.detail,
            stage.ms
        );
    }
    let passed = evaluation.rules.iter().filter(|rule| rule.outcome == RuleOutcome::Pass).count();
    out += &format!("  rules     {} ran, {passed} passed\n", evaluation.rules.len());
    let telling = [RuleOutcome::Fail, RuleOutcome::Unsure, RuleOutcome::Error];
    for rule in evaluation.rules.iter().filter(|rule| telling.contains(&rule.outcome)) {
        out += &format!(
            "            {} {} · {}\n",
            rule.rule,
            rule.outcome.as_str(),
            terminal::harmless(&rule.detail)
        );
    }
    match evaluation.faithfulness {
        Some(value) => {
            out += &format!(
                "  faithful  {value:.3} over {} claims{}\n",
                evaluation.claims.len(),
                if evaluation.truncated { ", text was cut" } else { "" }
            )
        }
        None => out += "  faithful  not measured\n",
    }
    for failure in evaluation.failures() {
        out += &failed(failure);
    }
    if let Some(judge) = &evaluation.judge {
        out += &judged(judge);
    }
    if let Some(received) = story.received.as_ref().filter(|_| !evaluation.claims.is_empty()) {
        out += &terminal::evidence(&received.call, evaluation, terminal::is_coloured());
    }
    out
}

/// A cost in words.
fn cost(usd: Option<f64>) -> String {
    usd.map_or("cost unknown".to_owned(), |usd| format!("{usd:.6} US dollars"))
}

/// A question to a judge that brought no verdict, and what it took.
fn failed(failure: &JudgeFailure) -> String {
    let JudgeFailure { judge, class, tokens_in, tokens_out, cost_usd, .. } = failure;
    let cost = cost(*cost_usd);
    format!("  judge     {judge} gave no verdict: {class} · {tokens_in} + {tokens_out} tokens · {cost}\n")
}

/// What the judge said, and what it took.
fn judged(judge: &Judgement) -> String {
    let cost = cost(judge.cost_usd);
    let mut out = format!(
        "  judge     {} ({}, {}) · score {:.2} · {}{}{}\n",
        judge.judge,
        terminal::harmless(&judge.model),
        judge.prompt_version,
        judge.score,
        if judge.cached {
            "from the cache".to_owned()
        } else {
            format!("{} + {} tokens", judge.tokens_in, judge.tokens_out)
        },
        if judge.cached { String::new() } else { format!(" · {cost}") },
        if judge.related { " · of the generator's family" } else { "" }
    );
    for claim in &judge.claims {
        let reason = terminal::harmless(&claim.reason);
        out += &format!(
            "            claim {} {} {:.2} · {reason}\n",
            claim.claim + 1,
            claim.label.as_str(),
            claim.support
        );
    }
    out
}

/// A Unix time in milliseconds as RFC 3339.
fn time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}
