//! `aftercheck validate`

use std::{path::Path, time::Duration};

use clap::Args;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{error::Elapsed, timeout},
};

use super::{OutputFormat, terminal};
use crate::{
    config::Config,
    database::{DatabaseKind, Databases},
    evaluators::nli::calibration::Scale,
    inference::Batcher,
    pipeline::{judging::Judges, keep::Keeper},
    service, sinks, sources,
};

/// One thing that was checked.
struct Check {
    what: String,
    /// What has to be mended.
    fault: Option<String>,
    /// What works and is hardly meant so.
    warning: Option<String>,
}

impl Check {
    /// A check, and what it found wrong.
    fn of(what: impl Into<String>, fault: Option<String>) -> Self {
        Self { what: what.into(), fault, warning: None }
    }

    /// What the table says of it.
    fn result(&self) -> String {
        match (&self.fault, &self.warning) {
            (Some(fault), _) => fault.clone(),
            (None, Some(warning)) => format!("warning: {warning}"),
            (None, None) => "ok".to_owned(),
        }
    }
}

/// How long the queue may take to say what waits in it.
const QUEUE_WAIT: Duration = Duration::from_secs(15);

/// How long a sink may take to say whether it lets us in.
const SINK_WAIT: Duration = Duration::from_secs(20);

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Ask every sink, too, whether it is there and lets us in; exit code 3 where one does not.
    #[arg(long)]
    connect: bool,
}

/// Sinks that are not there, or let nobody in.
#[derive(Debug, thiserror::Error)]
#[error("not reached, or not let in: {0}")]
pub struct NotConnected(String);

/// Checks rules with their examples, model with its self-test, database and queue; false when something is wrong.
pub async fn run(config: &Config, args: ValidateArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let mut checks = rule_checks(config);
    if config.inference.enabled {
        checks.extend(model_checks(config));
    }
    if config.judge.enabled {
        let fault = Judges::verify(&config.judge).err().map(|error| error.to_string());
        checks.push(Check::of("judges of [judge] have keys and prices", fault));
    }
    let opened = super::open(config).await;
    match opened {
        Ok((opened, _)) => {
            checks.push(Check::of(databases(config), None));
            let queue = timeout(QUEUE_WAIT, queue(config, &opened)).await;
            let fault = queue.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
            let what = format!("queue of [source] kind = {} answers", json!(config.source.kind));
            checks.push(Check::of(what, fault.err().map(|error| format!("{error:#}"))));
        }
        Err(error) => checks.push(Check::of(databases(config), Some(format!("{error:#}")))),
    }
    checks.extend(names_check(config).await);
    if let Err(error) = Keeper::new(&config.retention) {
        checks.push(Check::of("key of [retention.sealed]", Some(error.to_string())));
    }
    checks.extend(sink_checks(config));
    checks.extend(route_checks(config));
    let connected = if args.connect { connections(config).await } else { Vec::new() };
    let apart: Vec<&str> =
        connected.iter().filter(|one| one.check.fault.is_some()).map(|one| one.sink.as_str()).collect();
    let apart = apart.join(", ");
    checks.extend(connected.into_iter().map(|one| one.check));
    print(&checks, format)?;
    anyhow::ensure!(apart.is_empty(), NotConnected(apart));
    Ok(checks.iter().all(|check| check.fault.is_none()))
}

/// Prints what was checked.
fn print(checks: &[Check], format: OutputFormat) -> anyhow::Result<()> {
    let faults = checks.iter().filter(|check| check.fault.is_some()).count();
    let warnings = checks.iter().filter(|check| check.warning.is_some()).count();
    match format {
        OutputFormat::Json => {
            let row = |Check { what, fault, warning }: &Check| json!({"check": what, "fault": fault, "warning": warning});
            let rows: Vec<_> = checks.iter().map(row).collect();
            say!("{}", json!({"checks": rows, "faults": faults, "warnings": warnings}));
        }
        OutputFormat::Table => {
            let mut table = terminal::table(&["check", "result"]);
            for check in checks {
                table.add_row(vec![check.what.clone(), check.result()]);
            }
            say!("{table}\n{} checks, {faults} faults, {warnings} warnings", checks.len());
        }
    }
    Ok(())
}

/// Whether a sink, or the receiver of a route, is there and lets us in.
struct Connection {
    sink: String,
    check: Check,
}

/// Asks all sinks at once, and the receivers of all routes; nobody is sent a message. One that cannot be built is a fault already.
async fn connections(config: &Config) -> Vec<Connection> {
    let mut asked = JoinSet::new();
    for (name, sink) in sinks::build_each(&config.sinks).filter_map(Result::ok) {
        asked.spawn(async move {
            let answer = async { sink.check().await.map_err(|error| error.to_string()) };
            let answer = timeout(SINK_WAIT, answer).await;
            connection(format!("sink {name}"), name, answer)
        });
    }
    for (name, route) in &config.notify.routes {
        let Ok(destination) = route.to.build() else { continue };
        let name = name.clone();
        asked.spawn(async move {
            let answer = timeout(SINK_WAIT, destination.check()).await;
            connection(format!("route {name}"), format!("notify.{name}"), answer)
        });
    }
    let mut connections = asked.join_all().await;
    connections.sort_by(|a, b| a.sink.cmp(&b.sink));
    connections
}

/// What came of asking one of them.
fn connection(called: String, sink: String, answer: Result<Result<String, String>, Elapsed>) -> Connection {
    let (what, fault) = match answer {
        Ok(Ok(found)) => (format!("{called}: {found}"), None),
        Ok(Err(error)) => (format!("{called} is there and lets us in"), Some(error)),
        Err(_) => {
            let late = format!("no answer within {} s: look whether it is up", SINK_WAIT.as_secs());
            (format!("{called} is there and lets us in"), Some(late))
        }
    };
    let what = terminal::harmless(&what);
    Connection { sink, check: Check::of(what, fault.map(|fault| terminal::harmless(&fault))) }
}

/// Which sinks cannot be built, and whether the folders are there of those that write to files.
fn sink_checks(config: &Config) -> Vec<Check> {
    let wrong = sinks::build_each(&config.sinks).filter_map(Result::err);
    let wrong =
        wrong.map(|error| Check::of(format!("sink {} can be built", error.name), Some(error.to_string())));
    let mut checks: Vec<Check> = wrong.collect();
    let files = config.sinks.iter().filter_map(|(name, sink)| Some((name, sink.file()?)));
    let check = |(name, path): (&String, &Path)| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let missing = folder.filter(|folder| !folder.is_dir());
        let fault = missing.map(|folder| format!("no folder {}: create it", folder.display()));
        Check::of(format!("sink {name} can write {}", path.display()), fault)
    };
    checks.extend(files.map(check));
    checks
}

/// Whether each route of notices can be built, its secrets included; and which dimensions nobody hears of, though a rule that is
/// loaded guards them.
fn route_checks(config: &Config) -> Vec<Check> {
    let routes = config.notify.routes.iter().map(|(name, route)| {
        let fault = route.to.build().err().map(|wrong| format!("[notify.routes.{name}] to: {wrong}"));
        Check::of(format!("route {name} leads to {}", route.to.kind()), fault)
    });
    let mut checks: Vec<Check> = routes.collect();
    // Where the rules cannot be read that is a fault of its own.
    if let (false, Ok(rules)) = (checks.is_empty(), service::rules(config)) {
        let is_produced =
            |guards: &[String]| rules.iter().any(|(id, ..)| guards.iter().any(|guard| guard == id));
        let unheard = config.notify.unheard().into_iter().filter(|(_, guards)| is_produced(guards));
        checks.extend(unheard.map(|(name, _)| Check {
            warning: Some(format!(
                "no route asks for dimension {name}, nobody hears of its findings: add it to a route's dimensions"
            )),
            ..Check::of(format!("findings about {name} are told"), None)
        }));
    }
    checks
}

/// Asks the queue what waits in it.
async fn queue(config: &Config, databases: &Databases) -> anyhow::Result<()> {
    let mut source = sources::source(&config.source, databases, config.pipeline.limits())?;
    source.depth().await?;
    Ok(source.close().await?)
}

/// Asks the analyzer of names about a text of ours, where one is configured.
async fn names_check(config: &Config) -> Option<Check> {
    let what = "analyzer of [redaction.names] answers".to_owned();
    let redactor = match service::redactor(config) {
        Ok(redactor) => redactor,
        Err(error) => return Some(Check::of("redaction", Some(error.to_string()))),
    };
    let tried = redactor.names()?.try_out().await;
    Some(Check::of(what, tried.err().map(|error| error.to_string())))
}

/// What is to be said of the databases.
fn databases(config: &Config) -> String {
    let sqlite = config.needs(DatabaseKind::Sqlite).then(|| config.sqlite.path.display().to_string());
    let postgres = config
        .needs(DatabaseKind::Postgres)
        .then(|| config.postgres.place().unwrap_or_else(|| "[postgres]".to_owned()));
    let places: Vec<_> = [sqlite, postgres].into_iter().flatten().collect();
    format!("database {} is there and up to date", places.join(" and "))
}

/// Runs the model's golden pairs, and reads the calibration that goes with it.
fn model_checks(config: &Config) -> Vec<Check> {
    let started = Batcher::start(&config.inference);
    let digest = started.as_ref().ok().map(|(_, folder)| folder.digest.clone());
    let (classifier, encoder) = (config.inference.model.display(), config.inference.embedding.display());
    let beside = format!(", sentence encoder {encoder} gives a vector");
    let beside = if config.inference.embedding.as_os_str().is_empty() { String::new() } else { beside };
    let fault = started.err().map(|error| error.to_string());
    let model = Check::of(format!("model {classifier} answers its golden pairs{beside}"), fault);
    let scale = digest.map(|digest| service::scale(config, Some(&digest)));
    let calibration = scale.map(|scale| match scale {
        Err(error) => Check::of("calibration", Some(format!("{error:#}"))),
        Ok(scale) => Check::of(described(&scale), None),
    });
    [Some(model), calibration].into_iter().flatten().collect()
}

/// Which scale faithfulness is read on.
fn described(scale: &Scale) -> String {
    match scale.calibration() {
        Some(found) => format!(
            "calibration of {} labels, {:.0} % error among the decided, {} features of their own",
            found.all.labels,
            100.0 * found.target_error,
            found.features.len()
        ),
        None => {
            "no calibration: faithfulness is the mean entailment, fit one with `aftercheck calibrate`".into()
        }
    }
}

/// Runs every rule's own examples.
fn rule_checks(config: &Config) -> Vec<Check> {
    let rules = match service::rules(config) {
        Ok(rules) => rules,
        Err(error) => return vec![Check::of("rule packs", Some(format!("{error:#}")))],
    };
    if rules.iter().next().is_none() {
        let fault = "no rules: [rules] folder holds no *.toml with a [[rule]]".to_owned();
        return vec![Check::of("rule packs", Some(fault))];
    }
    let examples = rules.check_examples();
    rules
        .iter()
        .map(|(id, kind, _)| {
            let own: Vec<_> = examples.iter().filter(|example| example.rule == id).collect();
            let wrong = own.iter().find(|example| !example.ok);
            let fault = wrong.map(|example| {
                let (expected, got) = (example.expected.as_str(), example.got.as_str());
                format!("example {:?} should be {expected} and is {got}", example.example)
            });
            Check::of(format!("rule {id} ({kind}), {} examples", own.len()), fault)
        })
        .collect()
}
