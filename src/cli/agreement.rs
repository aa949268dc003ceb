//! `aftercheck report --judge`: whether the judge agrees with people, and what it costs.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    OutputFormat,
    labels::{self, Label, Labels},
    open, terminal,
};
use crate::{
    config::Config,
    domain::{DecidedBy, Evaluation, Stage, StageOutcome},
    monitor::agreement::{Confusion, Kappa},
    pipeline::decide::{JUDGE_HI, JUDGE_LO},
    service,
    store::{Page, Stored},
};

/// Evaluations that are read at a time.
const PAGE: u32 = 200;

/// Arguments of `report` about judges.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Compare the judge with people, and say what it costs, in place of the totals.
    #[arg(long)]
    pub judge: bool,
    /// What people said, as for `calibrate`: JSON lines with request_id and label [default: what they said at the review queue].
    #[arg(long, value_name = "FILE", requires = "judge")]
    pub labels: Option<std::path::PathBuf>,
}

/// A judge as it was: model and prompt.
type Version = (String, String);

/// Agreement of one judge with people, on one feature or all.
#[derive(Debug, Default, Serialize)]
struct Agreement {
    judge: String,
    prompt_version: String,
    feature: String,
    /// Supported counts as yes; people come first.
    confusion: Confusion,
    /// Labelled calls on which the judge was between its thresholds.
    unsure: u64,
    agreement: Option<f64>,
    kappa: Option<Kappa>,
}

/// What judging took, and what the stages before it spared.
#[derive(Debug, Default, Serialize)]
struct Tax {
    evaluations: u64,
    /// Evaluations by the stage that decided them.
    decided_by: BTreeMap<String, u64>,
    judged: u64,
    cached: u64,
    related: u64,
    /// Tokens, those of questions that failed included.
    tokens_in: u64,
    tokens_out: u64,
    /// Questions that brought no verdict, by what they brought.
    failures: BTreeMap<String, u64>,
    cost_usd: f64,
    /// Evaluations whose cost nobody knows: it is in no sum.
    unpriced: u64,
    /// Calls that wanted a judge and were given up, by what kept it: the class of its failure, `out`, `busy` or
    /// `budget`.
    unanswered: BTreeMap<String, u64>,
    /// What asking would have cost about calls that a stage before it decided, by that stage.
    avoided_usd: BTreeMap<String, f64>,
}

/// What became of the labels.
#[derive(Debug, Default, Serialize)]
struct Used {
    /// Request ids with a label.
    given: usize,
    /// Those of calls that a judge has judged.
    judged: usize,
}

/// Reads every evaluation since a time and prints both.
pub(super) async fn run(
    config: &Config,
    since: Option<Timestamp>,
    file: Option<&Path>,
    format: OutputFormat,
) -> anyhow::Result<bool> {
    let redactor = service::redactor(config)?;
    let given = file.map(|file| labels::read(file, &redactor)).transpose()?;
    let (databases, store) = open(config).await?;
    let labels = match given {
        Some(labels) => labels,
        None => labels::of_store(&*store).await?,
    };
    let bar = terminal::bar(None, "evaluations");
    let (mut tax, mut agreed) = (Tax::default(), BTreeMap::new());
    let (mut seen, mut used) = (HashSet::new(), HashSet::new());
    let mut next = Some(Page::since(since.map_or(0, Timestamp::as_millisecond), PAGE));
    while let Some(page) = next {
        let stored;
        (stored, next) = store.evaluated(&page).await?;
        bar.inc(stored.len() as u64);
        for Stored { evaluation, .. } in &stored {
            count(evaluation, &mut tax);
            // One call by one judge is one comparison, however many evaluator versions have taken it from the cache.
            if is_first(evaluation, &mut seen) && compare(evaluation, &labels, &mut agreed) {
                used.insert(evaluation.request_id.clone());
            }
        }
    }
    bar.finish_and_clear();
    databases.close().await;
    let agreements: Vec<Agreement> = agreed.into_iter().map(summed).collect();
    let used = Used { given: labels.len(), judged: used.len() };
    match format {
        OutputFormat::Json => {
            say!("{}", serde_json::json!({"labels": used, "agreement": agreements, "tax": tax}));
        }
        OutputFormat::Table => {
            print_agreements(&agreements, &used)?;
            print_tax(&tax)?;
        }
    }
    Ok(true)
}

/// Whether this judgement of a call has not been seen yet.
fn is_first(evaluation: &Evaluation, seen: &mut HashSet<String>) -> bool {
    let Some(judge) = &evaluation.judge else { return false };
    let Evaluation { tenant_id, request_id, .. } = evaluation;
    seen.insert(serde_json::json!([tenant_id, request_id, judge.model, judge.prompt_version]).to_string())
}

/// Adds one evaluation to the costs.
fn count(evaluation: &Evaluation, tax: &mut Tax) {
    tax.evaluations += 1;
    let stage = match evaluation.decided_by {
        DecidedBy::Rules => "rules",
        DecidedBy::Nli => "nli",
        DecidedBy::Judge => "judge",
        DecidedBy::Human => "human",
        DecidedBy::Policy => "policy",
    };
    *tax.decided_by.entry(stage.to_owned()).or_default() += 1;
    tax.cost_usd += evaluation.cost_usd.unwrap_or(0.0);
    tax.unpriced += u64::from(evaluation.cost_usd.is_none());
    if let Some(usd) = evaluation.judge_avoided_usd {
        *tax.avoided_usd.entry(stage.to_owned()).or_default() += usd;
    }
    let asked = evaluation.stages.iter().find(|report| report.stage == Stage::Judge);
    if let Some(report) = asked
        && (report.outcome == StageOutcome::Error || report.detail == "budget")
    {
        *tax.unanswered.entry(report.detail.clone()).or_default() += 1;
    }
    for failure in evaluation.failures() {
        *tax.failures.entry(failure.class.clone()).or_default() += 1;
        tax.tokens_in += failure.tokens_in;
        tax.tokens_out += failure.tokens_out;
    }
    let Some(judge) = &evaluation.judge else { return };
    tax.judged += 1;
    tax.cached += u64::from(judge.cached);
    tax.related += u64::from(judge.related);
    tax.tokens_in += judge.tokens_in;
    tax.tokens_out += judge.tokens_out;
}

/// Adds one evaluation to the comparison, where a judge and a person have both seen it; says whether they have.
fn compare(
    evaluation: &Evaluation,
    labels: &Labels,
    agreed: &mut BTreeMap<(Version, String), (Confusion, u64)>,
) -> bool {
    let Some(judge) = &evaluation.judge else { return false };
    let Some(label) = labels::of(labels, &evaluation.request_id, &evaluation.tenant_id) else { return false };
    let version = (judge.model.clone(), judge.prompt_version.clone());
    for feature in ["all".to_owned(), format!("feature {}", evaluation.feature)] {
        let (confusion, unsure) = agreed.entry((version.clone(), feature)).or_default();
        match judge.score {
            score if score >= JUDGE_HI => confusion.count(label == Label::Supported, true),
            score if score <= JUDGE_LO => confusion.count(label == Label::Supported, false),
            _ => *unsure += 1,
        }
    }
    true
}

/// A comparison with what it comes to.
fn summed(
    (((judge, prompt_version), feature), (confusion, unsure)): ((Version, String), (Confusion, u64)),
) -> Agreement {
    let (agreement, kappa) = (confusion.agreement(), confusion.kappa());
    Agreement { judge, prompt_version, feature, confusion, unsure, agreement, kappa }
}

/// What the columns of the comparison count.
const LEGEND: &str = "\
n: labelled calls on which the judge was sure. kappa: Cohen's, 0 is chance and 1 is always, with its 95 % interval.
both yes, both no: person and judge call the answer supported, or not. missed: only the person does. let pass: only the
judge does. unsure: the judge was between its thresholds; these are in no other column.
";

/// Prints how judges and people agree.
fn print_agreements(agreements: &[Agreement], used: &Used) -> anyhow::Result<()> {
    if used.given == 0 {
        say!(
            "no labels: people give them with `aftercheck review`, or name a file with --labels, to compare the judge with them\n"
        );
        return Ok(());
    }
    let headings = [
        "judge",
        "prompt",
        "calls",
        "n",
        "agree",
        "kappa (95 %)",
        "both yes",
        "missed",
        "let pass",
        "both no",
        "unsure",
    ];
    let mut table = terminal::table(&headings);
    for one in agreements {
        let Confusion { both, only_first, only_second, neither } = one.confusion;
        let kappa = |kappa: Kappa| format!("{:.2} ({:.2} to {:.2})", kappa.kappa, kappa.lo, kappa.hi);
        let counts = [both, only_first, only_second, neither, one.unsure].map(|count| count.to_string());
        let mut row = vec![
            terminal::harmless(&one.judge),
            one.prompt_version.clone(),
            terminal::harmless(&one.feature),
            one.confusion.n().to_string(),
            one.agreement.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share)),
            one.kappa.map_or("–".into(), kappa),
        ];
        row.extend(counts);
        table.add_row(row);
    }
    say!("{table}");
    say!("{LEGEND}");
    if used.judged < used.given {
        let without = used.given - used.judged;
        say!("{without} of {} labels are of calls that no judge has judged in this time\n", used.given);
    }
    Ok(())
}

/// Prints what judging took.
fn print_tax(tax: &Tax) -> anyhow::Result<()> {
    let mut table = terminal::table(&["what", "count"]);
    let mut row = |what: &str, count: String| {
        table.add_row(vec![what.to_owned(), count]);
    };
    row("evaluations", tax.evaluations.to_string());
    for (stage, count) in &tax.decided_by {
        row(&format!("decided by {stage}"), count.to_string());
    }
    row("judged", tax.judged.to_string());
    row("of them from the cache", tax.cached.to_string());
    row("of them by a relative of the generator", tax.related.to_string());
    for (why, count) in &tax.unanswered {
        row(&format!("wanted a judge and got no answer: {}", terminal::harmless(why)), count.to_string());
    }
    for (class, count) in &tax.failures {
        row(&format!("questions that failed: {}", terminal::harmless(class)), count.to_string());
    }
    row("tokens in, out, failed questions included", format!("{}, {}", tax.tokens_in, tax.tokens_out));
    row("US dollars, failed questions included", format!("{:.4}", tax.cost_usd));
    row("evaluations whose cost nobody knows", tax.unpriced.to_string());
    for (stage, usd) in &tax.avoided_usd {
        row(&format!("US dollars spared where {stage} decided"), format!("{usd:.4}"));
    }
    say!("{table}");
    Ok(())
}
