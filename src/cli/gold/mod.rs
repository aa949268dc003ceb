//! `aftercheck gold promote|list|show|edit|remove|export|pr|check`: the golden set without pages.

mod check;
mod git;
mod github;
mod pr;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

pub(super) use git::GitError;
pub(super) use github::GitHubError;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    golden::{
        GoldenError, Most, Shelf, Wanted, Which,
        alike::MAX_ROWS,
        export::{Export, Written},
    },
    service,
    store::{golden::GoldenRow, reviewing::Scope},
};

/// Arguments of `gold`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aftercheck gold promote order-4711 --by ana
  aftercheck gold edit GOLDEN_ID --by ana --expected 'The discount is 10 %.'
  aftercheck gold export --dir gold
  aftercheck gold pr --repo ../prompts --dry-run
  aftercheck gold check gold/golden_v3.jsonl --answers fresh.jsonl --junit gold.xml --markdown gold.md

Exit code 1: it is refused, or the check found a regression.")]
pub struct GoldArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the golden set.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make a row of a call that people decided.
    Promote {
        /// The call's id, or with --evaluation that of an evaluation, with --review that of a review item.
        id: String,
        /// The id is that of an evaluation.
        #[arg(long, conflicts_with = "review")]
        evaluation: bool,
        /// The id is that of a review item.
        #[arg(long)]
        review: bool,
        /// Tenant of the call, where several have this id.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        dataset: Dataset,
        #[command(flatten)]
        text: Text,
    },
    /// List rows.
    List {
        /// Only of this data set.
        #[arg(long)]
        dataset: Option<String>,
        /// At most so many, up to 1000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Behind this row.
        #[arg(long, value_parser = super::id)]
        after: Option<Uuid>,
    },
    /// Show a row and who changed it when.
    Show {
        /// The row.
        #[arg(value_parser = super::id)]
        golden_id: Uuid,
    },
    /// Change what is expected of a row.
    Edit {
        /// The row.
        #[arg(value_parser = super::id)]
        golden_id: Uuid,
        /// Digest of the row that you read, as `gold show` tells it: refused where somebody has changed it since.
        #[arg(long)]
        digest: Option<String>,
        #[command(flatten)]
        text: Text,
    },
    /// Take a row out; sinks that have it keep it.
    Remove {
        /// The row.
        #[arg(value_parser = super::id)]
        golden_id: Uuid,
        #[command(flatten)]
        by: By,
    },
    /// Write a data set to the next DIR/DATASET_vN.jsonl, unless nothing has changed.
    Export {
        #[command(flatten)]
        dataset: Dataset,
        /// The folder.
        #[arg(long, default_value = "gold")]
        dir: PathBuf,
        /// Write it although rows are alike.
        #[arg(long)]
        allow_alike: bool,
    },
    /// Propose the file of a data set as a pull request on GitHub, once for the same rows.
    Pr(pr::PrArgs),
    /// Check fresh answers against a file of rows; exit code 1 on a regression.
    Check(check::CheckArgs),
}

/// A data set.
#[derive(Debug, Args)]
struct Dataset {
    /// The data set.
    #[arg(long, default_value = "golden")]
    dataset: String,
}

/// Who does it.
#[derive(Debug, Args)]
struct By {
    /// Who you are.
    #[arg(long, env = "AFTERCHECK_REVIEWER", default_value = "", hide_default_value = true)]
    by: String,
}

/// What is expected of an answer.
#[derive(Debug, Args)]
struct Text {
    #[command(flatten)]
    by: By,
    /// What the answer should have been [default of promote: what the reviewer wrote, or the row has where it was changed since].
    #[arg(long)]
    expected: Option<String>,
    /// What the answer has to keep to, where no one answer is the right one.
    #[arg(long)]
    policy: Option<String>,
}

/// Does it; false where it is refused, or where the check found a regression.
pub async fn run(config: &Config, args: GoldArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let action = match args.action {
        // It needs no database.
        Action::Check(check) => return check::run(config, check, format).await,
        action => action,
    };
    let (databases, store) = open(config).await?;
    let mut shelf = service::shelf(config, store)?;
    shelf.scope = Scope::default();
    let done = match act(shelf, action, format).await {
        Err(error) => match error.downcast::<GoldenError>() {
            Ok(GoldenError::Store(error)) => Err(error.into()),
            Ok(error @ GoldenError::Unfit { .. }) => Err(error.into()),
            Ok(refused) => {
                eprintln!("aftercheck: {refused}");
                Ok(false)
            }
            Err(error) => Err(error),
        },
        done => done,
    };
    databases.close().await;
    done
}

/// Does what is asked.
async fn act(mut shelf: Shelf, action: Action, format: OutputFormat) -> anyhow::Result<bool> {
    match action {
        Action::Promote { id, evaluation, review, tenant, dataset, text } => {
            let which = match (evaluation, review) {
                (true, _) => Which::Evaluation(id.parse()?),
                (_, true) => Which::Review(id.parse()?),
                // Calls are found under the names that redaction leaves them.
                _ => {
                    let identity = |id: &str| shelf.redactor.identity(id).into_owned();
                    Which::Call(tenant.as_deref().map(identity), identity(&id))
                }
            };
            shelf.by = text.by.by;
            let wanted = Wanted { expected: text.expected, policy: text.policy };
            let promoted = shelf.promote(&which, &dataset.dataset, wanted).await?;
            say!("{}", serde_json::to_string(&promoted)?);
        }
        Action::Edit { golden_id, digest, text } => {
            shelf.by = text.by.by;
            let wanted = Wanted { expected: text.expected, policy: text.policy };
            say!("{}", serde_json::to_string(&shelf.edit(golden_id, wanted, digest).await?)?);
        }
        Action::List { dataset, limit, after } => {
            list(&shelf.list(dataset.as_deref(), after, limit).await?, format)?;
        }
        Action::Show { golden_id } => {
            let (row, history) = shelf.show(golden_id).await?;
            say!("{}", json!({"row": row, "history": history}));
        }
        Action::Remove { golden_id, by } => {
            shelf.by = by.by;
            shelf.remove(golden_id).await?;
            say!("{}", json!({"golden_id": golden_id, "removed": true}));
        }
        Action::Export { dataset, dir, allow_alike } => {
            let export = shelf.export(&dataset.dataset, Most::ALL, ()).await?;
            return write(&export, &dir, allow_alike, format);
        }
        Action::Pr(pr) => return pr::run(&shelf, pr, format).await,
        Action::Check(_) => {}
    }
    Ok(true)
}

/// Prints rows.
fn list(rows: &[GoldenRow], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for row in rows {
            say!("{}", serde_json::to_string(row)?);
        }
        return Ok(());
    }
    let mut table =
        terminal::table(&["row", "data set", "tenant", "request", "feature", "label", "expected"]);
    for GoldenRow { golden, .. } in rows {
        let expected = golden.expected.as_ref().or(golden.policy.as_ref());
        table.add_row(vec![
            golden.golden_id.to_string(),
            terminal::harmless(&golden.dataset),
            terminal::harmless(&golden.tenant_id),
            terminal::harmless(&golden.request_id),
            terminal::harmless(&golden.feature),
            golden.label.as_str().to_owned(),
            terminal::harmless(
                &expected.map_or("–".into(), |text| text.chars().take(60).collect::<String>()),
            ),
        ]);
    }
    say!("{table}");
    Ok(())
}

/// Says what speaks against a file; whether it may be written.
fn may_be_written(export: &Export, allow_alike: bool) -> bool {
    for found in &export.personal {
        eprintln!(
            "aftercheck: row {} {}: holds what [redaction] takes out; edit or remove it",
            found.golden_id, found.field
        );
    }
    for pair in &export.alike {
        eprintln!(
            "aftercheck: rows {} and {} are alike ({:.2}): remove one, or say --allow-alike",
            pair.one, pair.other, pair.resemblance
        );
    }
    if export.not_compared > 0 {
        eprintln!(
            "aftercheck: {} rows behind the first {MAX_ROWS} were not compared with others",
            export.not_compared
        );
    }
    let is_clean = export.is_clean(allow_alike);
    if is_clean && export.content.is_empty() {
        eprintln!("aftercheck: data set {} has no rows", export.dataset);
    }
    is_clean && !export.content.is_empty()
}

/// Writes the file of a data set; false where something speaks against it.
fn write(
    export: &Export,
    dir: &std::path::Path,
    allow_alike: bool,
    format: OutputFormat,
) -> anyhow::Result<bool> {
    if !may_be_written(export, allow_alike) {
        return Ok(false);
    }
    let (path, is_new) = match export.write(dir)? {
        Written::New(path) => (path, true),
        Written::Same(path) => (path, false),
    };
    let (dev, test) = export.rows;
    match format {
        OutputFormat::Json => say!(
            "{}",
            json!({"file": path, "new": is_new, "sha256": export.sha256, "dev": dev, "test": test,
                   "not_compared": export.not_compared})
        ),
        OutputFormat::Table => say!(
            "{} {}: {dev} dev, {test} test, sha256 {}",
            path.display(),
            if is_new { "written" } else { "is the newest and the same: nothing written" },
            export.sha256
        ),
    }
    Ok(true)
}
