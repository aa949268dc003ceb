//! `aftercheck replay`

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::ensure;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    OutputFormat,
    in_order::in_order,
    labels::{self, Label, Labels},
    open, terminal,
};
use crate::{
    config::Config,
    domain::{Call, Evaluation, Reason, Verdict},
    monitor::agreement::Confusion,
    pipeline::{Panicked, cascade::Cascade, cascade::Judged, judging::Judges},
    service,
    store::{Page, Store, Stored},
};

/// Evaluations that are read at a time.
const PAGE: u32 = 200;
/// Examples of each kind of flip.
const EXAMPLES: usize = 5;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs the evaluator of this configuration over calls that are stored, and says what would be decided otherwise. No evaluation is \
written, nothing goes to sinks, and nothing is switched on: start the service with the configuration to do that. Calls \
whose answer was cut cannot be judged again and are left out. The judge is not asked unless --ask-judge is given: then it \
costs what it costs, within [judge.budget], and its answers are kept for later.

Examples:
  aftercheck --config candidate.toml replay --since 2026-11-01T00:00:00Z
  aftercheck --config candidate.toml replay --limit 1000 --labels labels.jsonl --ask-judge")]
pub struct ReplayArgs {
    /// Only calls that were evaluated since this time (RFC 3339).
    #[arg(long)]
    since: Option<Timestamp>,
    /// At most so many calls, the oldest first; they are held in memory.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,
    /// What people said, as for `calibrate`: how often each evaluator agrees with them.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Ask the judge about what is unsure.
    #[arg(long)]
    ask_judge: bool,
}

/// Whether the candidate's judge is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// It is, or there is none.
    Now,
    /// It would be.
    Never,
}

/// What a replay comes to.
#[derive(Debug, Default, Serialize)]
struct Replay {
    evaluator_version: String,
    calls: u64,
    /// Calls whose answer was cut.
    left_out: u64,
    /// Calls on which the candidate failed.
    failed: u64,
    /// Calls by the verdict before, and that of the candidate.
    verdicts: BTreeMap<String, BTreeMap<String, u64>>,
    flips: u64,
    /// The first of each kind of flip.
    examples: Vec<Flip>,
    before: Agreed,
    candidate: Agreed,
    /// Calls for which both verdicts are known.
    compared: u64,
    /// Calls that a judge of the candidate has judged.
    judged: u64,
    /// Those of them whose answer was known.
    cached: u64,
    /// Calls about which the judge was not asked, because the budget is spent.
    over_budget: u64,
    /// Calls about which it would ask the judge, who is not asked here: what they would become nobody knows.
    left_to_judge: u64,
    cost_usd: f64,
    /// Calls whose cost nobody knows: it is not in it.
    unpriced: u64,
}

/// A call that would be decided otherwise.
#[derive(Debug, Serialize)]
struct Flip {
    tenant_id: String,
    request_id: String,
    before: Verdict,
    after: Verdict,
    reasons: Vec<Reason>,
}

/// How far an evaluator agrees with people: passes against supported, where it decides.
#[derive(Debug, Default, Serialize)]
struct Agreed {
    confusion: Confusion,
    /// Labelled calls that it leaves to people.
    undecided: u64,
}

/// Judges stored calls once more and prints what would change.
pub async fn run(config: &Config, args: ReplayArgs, format: OutputFormat) -> anyhow::Result<bool> {
    ensure!(!args.ask_judge || config.judge.enabled, "[judge] enabled is false: there is nobody to ask");
    let redactor = service::redactor(config)?;
    let labels = args.labels.as_deref().map(|file| labels::read(file, &redactor)).transpose()?;
    let cascade = service::cascade(config)?;
    let (databases, store) = open(config).await?;
    let judges = Judges::new(&config.judge, config.pipeline.in_flight, Arc::clone(&store))?;
    // A candidate without a judge leaves to people what it is unsure of; one with a judge that is not asked here leaves it open.
    let asks = if judges.is_some() && !args.ask_judge { Asks::Never } else { Asks::Now };
    let cascade = Arc::new(cascade.with_judges(judges.filter(|_| args.ask_judge)));
    let stored = newest(&*store, &args).await?;
    let mut replay = Replay { evaluator_version: cascade.version().to_owned(), ..Replay::default() };
    let bar = terminal::bar(Some(stored.len() as u64), "calls");
    let whole = stored.into_iter().filter(|stored| {
        replay.left_out += u64::from(stored.cut);
        !stored.cut
    });
    let whole: Vec<Stored> = whole.collect();
    let start = |stored: Stored| Ok(tokio::spawn(judge(Arc::clone(&cascade), stored)));
    let finish = |(before, judged): (Evaluation, Result<Judged, Panicked>)| {
        bar.inc(1);
        replay.add(&before, judged, labels.as_ref(), asks);
        Ok(())
    };
    in_order(whole.into_iter(), start, finish).await?;
    bar.finish_and_clear();
    databases.close().await;
    match format {
        OutputFormat::Json => say!("{}", serde_json::to_string(&replay)?),
        OutputFormat::Table => print(&replay, labels.is_some())?,
    }
    Ok(true)
}

/// The newest evaluation of each of the oldest calls.
async fn newest(store: &dyn Store, args: &ReplayArgs) -> anyhow::Result<Vec<Stored>> {
    let mut calls: BTreeMap<(String, String), Stored> = BTreeMap::new();
    let mut next = Some(Page::since(args.since.map_or(0, Timestamp::as_millisecond), PAGE));
    while let Some(page) = next {
        let stored;
        (stored, next) = store.evaluated(&page).await?;
        for one in stored {
            let key = (one.evaluation.tenant_id.clone(), one.evaluation.request_id.clone());
            if calls.len() < args.limit || calls.contains_key(&key) {
                calls.insert(key, one);
            }
        }
    }
    Ok(calls.into_values().collect())
}

/// What the candidate says of a call.
async fn judge(cascade: Arc<Cascade>, stored: Stored) -> (Evaluation, Result<Judged, Panicked>) {
    let call: Arc<Call> = Arc::new(stored.call);
    (stored.evaluation, cascade.judge(&call).await)
}

impl Replay {
    /// Adds one call.
    fn add(
        &mut self,
        before: &Evaluation,
        judged: Result<Judged, Panicked>,
        labels: Option<&Labels>,
        asks: Asks,
    ) {
        let Ok(Judged { evaluation: after, model_error: false, wants_judge, .. }) = judged else {
            self.failed += 1;
            return;
        };
        self.calls += 1;
        self.cost_usd += after.cost_usd.unwrap_or(0.0);
        self.unpriced += u64::from(after.cost_usd.is_none());
        if wants_judge && asks == Asks::Never {
            self.left_to_judge += 1;
            return;
        }
        if after.reasons.contains(&Reason::JudgeBudget) {
            self.over_budget += 1;
            return;
        }
        self.compared += 1;
        self.judged += u64::from(after.judge.is_some());
        self.cached += u64::from(after.judge.as_ref().is_some_and(|judge| judge.cached));
        let (was, is) = (before.verdict, after.verdict);
        *self.verdicts.entry(was.as_str().into()).or_default().entry(is.as_str().into()).or_default() += 1;
        if was != is {
            self.flips += 1;
            let alike = self.examples.iter().filter(|flip| (flip.before, flip.after) == (was, is)).count();
            if alike < EXAMPLES {
                let (tenant_id, request_id) = (after.tenant_id.clone(), after.request_id.clone());
                let reasons = after.reasons.clone();
                self.examples.push(Flip { tenant_id, request_id, before: was, after: is, reasons });
            }
        }
        let label = labels.and_then(|labels| labels::of(labels, &before.request_id, &before.tenant_id));
        if let Some(label) = label {
            self.before.add(was, label);
            self.candidate.add(is, label);
        }
    }
}

impl Agreed {
    /// Adds one labelled call.
    fn add(&mut self, verdict: Verdict, label: Label) {
        match verdict {
            Verdict::Pass | Verdict::Fail => {
                self.confusion.count(label == Label::Supported, verdict == Verdict::Pass);
            }
            Verdict::Review | Verdict::NotApplicable => self.undecided += 1,
        }
    }

    /// In words.
    fn told(&self) -> String {
        let n = self.confusion.n();
        let share =
            self.confusion.agreement().map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let kappa = self.confusion.kappa();
        let kappa =
            kappa.map_or(String::new(), |k| format!(", kappa {:.2} ({:.2} to {:.2})", k.kappa, k.lo, k.hi));
        format!("decides {n} of {} labelled calls, {share} as people{kappa}", n + self.undecided)
    }
}

/// Prints tables.
fn print(replay: &Replay, labelled: bool) -> anyhow::Result<()> {
    let words: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
    let mut table = terminal::table(&[&["before \\ candidate"], &words[..]].concat());
    for word in &words {
        let Some(row) = replay.verdicts.get(*word) else { continue };
        let count = |to: &&str| row.get(*to).map_or(String::new(), u64::to_string);
        table.add_row([vec![(*word).to_owned()], words.iter().map(count).collect()].concat());
    }
    say!("candidate {}\n{table}", replay.evaluator_version);
    let Replay { calls, compared, flips, left_out, failed, .. } = replay;
    say!("{compared} of {calls} calls compared, {flips} decided otherwise");
    say!("left out: {left_out} whose answer was cut, {failed} on which the candidate failed");
    let Replay { judged, cached, left_to_judge, over_budget, cost_usd, unpriced, .. } = replay;
    say!(
        "judge: {judged} judged, {cached} of them known before, {cost_usd:.6} US dollars and {unpriced} calls whose cost nobody knows; {left_to_judge} left to it without \
         asking (--ask-judge), {over_budget} not asked because the budget is spent"
    );
    if labelled {
        say!("before:    {}\ncandidate: {}", replay.before.told(), replay.candidate.told());
    }
    for flip in &replay.examples {
        let reasons: Vec<String> =
            flip.reasons.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        say!(
            "{} → {}: {} ({}), because of {}",
            flip.before.as_str(),
            flip.after.as_str(),
            terminal::harmless(&flip.request_id),
            terminal::harmless(&flip.tenant_id),
            reasons.join(", ").replace('"', "")
        );
    }
    Ok(())
}
