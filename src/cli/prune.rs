//! `aftercheck prune`

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    pipeline::retention,
    store::{Pruned, Store},
};

/// Seconds of the units of an age.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Deletes evaluations with their claims, scores, closed review items and ended deliveries, then the calls \
that no evaluation needs any more and their history. It never deletes an evaluation whose review is open or that has a \
delivery which is neither made nor given up. What has expired by `[retention]` goes too, as in a running service: sealed \
messages, keys of erased calls, and dead letters where `dead_letter_days` says so.

A call that was pruned and comes again is evaluated again: keep calls for longer than any queue or backup can bring \
them back. May be ended and started again at any time.")]
pub struct PruneArgs {
    /// Age of what is deleted: a number and s, m, h or d, such as 90d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Duration,
    /// Count what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Deletes batch by batch; what was deleted stays deleted when it is ended in between.
pub async fn run(config: &Config, args: PruneArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let age_ms = i64::try_from(args.older_than.as_millis())?;
    let before_ms = Timestamp::now().as_millisecond().saturating_sub(age_ms);
    let (databases, store) = open(config).await?;
    let (pruned, expired) = match args.dry_run {
        true => (store.prunable(before_ms).await?, None),
        false => {
            let pruned = prune(&*store, before_ms).await?;
            (pruned, Some(retention::expire(&config.retention, &*store).await?))
        }
    };
    databases.close().await;
    print(&pruned, expired, before_ms, format)?;
    Ok(true)
}

/// Deletes what was evaluated before a time, under a bar.
async fn prune(store: &dyn Store, before_ms: i64) -> anyhow::Result<Pruned> {
    let all = store.prunable(before_ms).await?.evaluations;
    let bar = terminal::bar(Some(all), "evaluations");
    let sum = retention::prune(store, before_ms, |batch| bar.inc(batch.evaluations)).await?;
    bar.finish_and_clear();
    Ok(sum)
}

/// Prints what went, or would go where nothing was done: then it is not known what has expired.
fn print(pruned: &Pruned, expired: Option<u64>, before_ms: i64, format: OutputFormat) -> anyhow::Result<()> {
    let (before, dry_run) = (Timestamp::from_millisecond(before_ms)?, expired.is_none());
    if format == OutputFormat::Json {
        let told = json!({"before": before, "dry_run": dry_run, "pruned": pruned, "expired": expired});
        say!("{told}");
        return Ok(());
    }
    let mut table = terminal::table(&["what", if dry_run { "would go" } else { "gone" }]);
    for (what, count) in
        [("evaluations", pruned.evaluations), ("calls", pruned.calls), ("ledger entries", pruned.ledger)]
    {
        table.add_row(vec![what.to_owned(), count.to_string()]);
    }
    if let Some(expired) = expired {
        table.add_row(vec!["expired by [retention]".to_owned(), expired.to_string()]);
    }
    say!("evaluated before {before}\n{table}");
    Ok(())
}

/// Reads an age.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no age: write a number and s, m, h or d, such as 90d");
    let unit = text.chars().last().and_then(|last| UNITS.iter().find(|(unit, _)| *unit == last));
    let (unit, secs) = unit.ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    // Longer than calls have been made; and far from the end of what a clock can count.
    let secs = number.checked_mul(*secs).filter(|secs| *secs <= 36_500 * 86_400).ok_or_else(wrong)?;
    Ok(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        assert_eq!(age("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(age("36h"), Ok(Duration::from_secs(36 * 3600)));
        assert_eq!(age("0s"), Ok(Duration::ZERO));
        for wrong in ["", "90", "d", "-1d", "1.5d", "90dd", "99999999999999999999d", "9999999d", "90 days"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
