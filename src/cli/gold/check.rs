//! `aftercheck gold check FILE --answers FILE`

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::super::{OutputFormat, terminal};
use crate::{
    config::Config,
    domain::Golden,
    golden::check::{self, Checked, Gate, Outcome},
    golden::export::Line,
    pipeline::{cascade::Cascade, decode::decode},
    redaction::Redactor,
    service,
};

/// Arguments of `gold check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A file that `gold export` wrote.
    file: PathBuf,
    /// Fresh answers, or - for stdin: JSON lines of golden_id or request_id (with tenant_id where several tenants have it), and
    /// answer.
    #[arg(long)]
    answers: PathBuf,
    /// What nobody can tell fails, too.
    #[arg(long)]
    strict: bool,
    /// A row without an answer does not fail.
    #[arg(long)]
    allow_missing: bool,
    /// Write a report as JUnit XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Write a report as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// A fresh answer.
#[derive(Debug, Deserialize)]
struct Fresh {
    #[serde(default)]
    golden_id: Option<uuid::Uuid>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    tenant_id: Option<String>,
    answer: String,
}

/// Checks; false on a regression.
pub async fn run(config: &Config, args: CheckArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let rows = rows(&args)?;
    let (redactor, cascade) = (service::redactor(config)?, service::cascade(config)?);
    let answers = answers(&args, &rows, &redactor)?;
    let mut checked = Vec::with_capacity(rows.len());
    for (number, row) in rows.iter().enumerate() {
        let outcome = match answers.get(&number) {
            Some(answer) => outcome(row, answer, &redactor, &cascade).await?,
            None => (Outcome::Missing, String::new()),
        };
        checked.push(check::checked(row, outcome));
    }
    let gate = Gate { strict: args.strict, allow_missing: args.allow_missing };
    for (path, report) in
        [(&args.junit, check::junit(&checked, gate)), (&args.markdown, check::markdown(&checked, gate))]
    {
        if let Some(path) = path {
            fs::write(path, report).with_context(|| path.display().to_string())?;
        }
    }
    print(&checked, gate, format)?;
    Ok(!checked.iter().any(|row| gate.fails(row.result)))
}

/// What a fresh answer comes to. It is redacted as a call's is before anything is said of it.
async fn outcome(
    row: &Golden,
    answer: &str,
    redactor: &Redactor,
    cascade: &Cascade,
) -> anyhow::Result<(Outcome, String)> {
    let message = check::message(row, answer).to_string();
    let call = match decode(message.as_bytes(), redactor) {
        Ok(decoded) => decoded.call,
        Err(letter) => {
            return Ok((Outcome::Regressed, format!("no call can have this answer: {}", letter.detail)));
        }
    };
    if let Some((outcome, why)) = check::known(row, &call.content.answer) {
        return Ok((outcome, why.to_owned()));
    }
    Ok(check::judged(&cascade.judge(&Arc::new(call)).await?.evaluation))
}

/// Reads the rows.
fn rows(args: &CheckArgs) -> anyhow::Result<Vec<Golden>> {
    let mut rows = Vec::new();
    for (number, line) in terminal::lines(&args.file)?.enumerate() {
        let line = line?;
        if !line.trim_ascii().is_empty() {
            let what = || format!("{} line {}: no row of a golden set", args.file.display(), number + 1);
            rows.push(serde_json::from_slice::<Line>(&line).with_context(what)?.golden);
        }
    }
    if rows.is_empty() {
        bail!("{} has no rows: nothing would be checked", args.file.display());
    }
    Ok(rows)
}

/// Reads the answers, each under the place of its row.
fn answers(
    args: &CheckArgs,
    rows: &[Golden],
    redactor: &Redactor,
) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut answers = BTreeMap::new();
    for (number, line) in terminal::lines(&args.answers)?.enumerate() {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at = format!("{} line {}", args.answers.display(), number + 1);
        let fresh: Fresh = serde_json::from_slice(&line)
            .with_context(|| format!("{at}: need answer, and golden_id or request_id"))?;
        // Rows have the names that redaction left their calls; who answers may have those that the producer wrote.
        let [request_id, tenant_id] = [&fresh.request_id, &fresh.tenant_id]
            .map(|id| id.as_deref().map(|id| redactor.identity(id).into_owned()));
        let is_meant = |row: &Golden| match (&fresh.golden_id, &request_id) {
            (Some(id), _) => row.golden_id == *id,
            (None, Some(id)) => {
                row.request_id == *id && tenant_id.as_ref().is_none_or(|tenant| row.tenant_id == *tenant)
            }
            (None, None) => false,
        };
        let meant: Vec<usize> =
            rows.iter().enumerate().filter(|(_, row)| is_meant(row)).map(|(at, _)| at).collect();
        match meant.as_slice() {
            [row] => {
                if answers.insert(*row, fresh.answer).is_some() {
                    bail!("{at}: this row has an answer already");
                }
            }
            [] => bail!("{at}: no row has the golden_id or request_id of this line"),
            _ => bail!("{at}: several rows have this request_id: name the tenant_id, or the golden_id"),
        }
    }
    Ok(answers)
}

/// Prints what does not hold, and the counts.
fn print(rows: &[Checked], gate: Gate, format: OutputFormat) -> anyhow::Result<()> {
    let [held, regressed, unsure, missing] = check::counts(rows);
    if format == OutputFormat::Json {
        let passed = !rows.iter().any(|row| gate.fails(row.result));
        say!(
            "{}",
            json!({"passed": passed, "held": held, "regressed": regressed, "unsure": unsure, "missing": missing, "rows": rows})
        );
        return Ok(());
    }
    if rows.len() > held {
        table_of(rows)?;
    }
    say!("{} rows: {held} held, {regressed} regressed, {unsure} unsure, {missing} missing", rows.len());
    if unsure > 0 && !gate.strict {
        say!(
            "unsure: nobody can tell without a judge or a person, and it does not fail; --strict has it fail"
        );
    }
    Ok(())
}

/// Prints what does not hold.
fn table_of(rows: &[Checked]) -> anyhow::Result<()> {
    let mut table = terminal::table(&["result", "request", "feature", "people said", "why"]);
    for row in rows.iter().filter(|row| row.result != Outcome::Held) {
        let cells = [row.result.as_str(), &row.request_id, &row.feature, row.label.as_str(), &row.why];
        table.add_row(cells.map(terminal::harmless));
    }
    say!("{table}");
    Ok(())
}
