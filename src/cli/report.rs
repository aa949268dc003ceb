//! `aftercheck report`

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{OutputFormat, agreement, open, terminal, why};
use crate::{
    config::Config,
    domain::{Doubt, Verdict},
    monitor::audit::{self, AuditReport, Share},
    redaction::Redactor,
    service,
    store::{ClaimTotals, Report, reviewing::Scope},
};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only evaluations since this time (RFC 3339).
    #[arg(long)]
    since: Option<Timestamp>,
    /// Tell the stories of so many calls with the lowest faithfulness.
    #[arg(long, default_value_t = 0, value_name = "N")]
    worst: u32,
    #[command(flatten)]
    judge: agreement::JudgeArgs,
}

/// The totals, and what the audit slice tells.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    audit: &'a AuditReport,
}

/// Prints the totals.
pub async fn run(config: &Config, args: ReportArgs, format: OutputFormat) -> anyhow::Result<bool> {
    if args.judge.judge {
        return agreement::run(config, args.since, args.judge.labels.as_deref(), format).await;
    }
    let (databases, store) = open(config).await?;
    let report = store.report(args.since.map_or(0, Timestamp::as_millisecond), args.worst).await?;
    let audit = audit::estimate(
        &store.audited(&Scope::default(), args.since.map_or(0, Timestamp::as_millisecond)).await?,
    );
    databases.close().await;
    match format {
        OutputFormat::Json => say!("{}", serde_json::to_string(&Whole { report: &report, audit: &audit })?),
        OutputFormat::Table => {
            print_tables(&report, &*service::redactor(config)?)?;
            print_audit(&audit)?;
        }
    }
    Ok(true)
}

/// Prints one table per question.
fn print_tables(report: &Report, redactor: &Redactor) -> anyhow::Result<()> {
    let total: u64 = report.verdicts.values().sum();
    let dead: u64 = report.dead_letters.values().sum();
    say!("{total} evaluations, {dead} dead letters\n");
    let words: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
    let mut all = BTreeMap::from([("all".to_owned(), report.verdicts.clone())]);
    all.extend(report.features.clone());
    cross("feature", &words, &all)?;
    cross("rule", &["pass", "fail", "unsure", "not_applicable", "error"], &report.rules)?;
    let mut stages = terminal::table(&["stage", "outcome", "calls", "p50 ms", "p95 ms", "max ms"]);
    for row in &report.stages {
        let times = [row.p50_ms, row.p95_ms, row.max_ms].map(|ms| format!("{ms:.2}"));
        stages.add_row(
            [vec![row.stage.clone(), row.outcome.clone(), row.calls.to_string()], times.to_vec()].concat(),
        );
    }
    say!("{stages}");
    counts("reason", &report.reasons)?;
    counts("open review", &report.reviews)?;
    if report.deferred > 0 {
        say!("{} calls wait for a judge\n", report.deferred);
    }
    doubts(&report.claims)?;
    counts("dead letter", &report.dead_letters)?;
    cross("sink", &["delivered", "open", "dead"], &report.deliveries)?;
    for story in &report.worst {
        say!("{}", why::told(story, redactor).trim_end());
    }
    Ok(())
}

/// How often verdicts are wrong, by the audit slice; nothing where nothing was drawn.
fn print_audit(audit: &AuditReport) -> anyhow::Result<()> {
    if audit.drawn == 0 {
        return Ok(());
    }
    let mut table = terminal::table(&["verdicts that people overturn", "share", "95 % interval", "labelled"]);
    let mut row = |name: &str, share: Option<Share>| {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let (estimate, interval, n) = match share {
            Some(Share { share, lo, hi, n, .. }) => {
                (percent(share), format!("{} to {}", percent(lo), percent(hi)), n)
            }
            None => ("–".into(), "–".into(), 0),
        };
        table.add_row(vec![name.to_owned(), estimate, interval, n.to_string()]);
    };
    row("passes", audit.false_pass);
    row("fails", audit.false_fail);
    for (feature, share) in &audit.false_pass_by_feature {
        row(&format!("passes of {}", terminal::harmless(feature)), Some(*share));
    }
    say!("{table}");
    say!("of {} calls that were drawn at random, {} are labelled\n", audit.drawn, audit.labelled);
    Ok(())
}

/// How many claims the model could not judge, by doubt; nothing without claims.
fn doubts(totals: &ClaimTotals) -> anyhow::Result<()> {
    if totals.claims == 0 {
        return Ok(());
    }
    let mut table = terminal::table(&["claims", "count", "share"]);
    let mut row = |name: &str, count: u64| {
        let share = 100.0 * count as f64 / totals.claims as f64;
        table.add_row(vec![name.to_owned(), count.to_string(), format!("{share:.1} %")]);
    };
    row("all", totals.claims);
    for doubt in Doubt::ALL {
        if let Some(count) = totals.doubted.get(doubt.as_str()) {
            row(&format!("unsure ({})", doubt.as_str()), *count);
        }
    }
    say!("{table}");
    Ok(())
}

/// A table of counts by name and word.
fn cross(name: &str, words: &[&str], rows: &BTreeMap<String, BTreeMap<String, u64>>) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = terminal::table(&[&[name], words].concat());
    for (row, counts) in rows {
        let count = |word: &&str| counts.get(*word).map_or(String::new(), u64::to_string);
        table.add_row([vec![terminal::harmless(row)], words.iter().map(count).collect()].concat());
    }
    say!("{table}");
    Ok(())
}

/// A table of counts by name.
fn counts(name: &str, rows: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = terminal::table(&[name, "count"]);
    for (row, count) in rows {
        table.add_row(vec![row.clone(), count.to_string()]);
    }
    say!("{table}");
    Ok(())
}
