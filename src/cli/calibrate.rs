//! `aftercheck calibrate LABELS.jsonl`

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{OutputFormat, terminal};
use crate::{
    config::Config,
    domain::Call,
    evaluators::nli::calibration::{
        CALIBRATION_FILE, Slice,
        curve::{self, Point},
        evidence_digest,
        fit::{Fitted, Sample, Settings, fit},
    },
    pipeline::{cascade::Cascade, decode::decode},
    service,
    store::Store,
};

/// Calls measured at a time.
const IN_FLIGHT: usize = 64;

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
A label is a line of JSON: {\"request_id\": \"order-4711\", \"tenant_id\": \"acme\", \"label\": \"supported\"},
or \"unsupported\"; tenant_id may be left out where the request id says enough. Other keys are ignored.

Examples:
  aftercheck calibrate labels.jsonl                       the calls are in the database
  aftercheck calibrate labels.jsonl --calls calls.jsonl   no database
  aftercheck calibrate labels.jsonl --target-error 0.05   fewer decided, fewer of them wrongly")]
pub struct CalibrateArgs {
    /// File of labels, JSON lines, or - for stdin.
    labels: PathBuf,
    /// File of the labelled calls [default: the database].
    #[arg(long, value_name = "FILE")]
    calls: Option<PathBuf>,
    /// Where the calibration is written [default: calibration.json in the model folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Share of errors among the decided calls that is allowed.
    #[arg(long, default_value_t = 0.10, value_parser = share)]
    target_error: f64,
    /// Confidence with which that share is kept.
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    confidence: f64,
    /// Fit one band for all features, however many labels each has.
    #[arg(long)]
    one_band: bool,
}

/// One line of labels.
#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    #[serde(default)]
    tenant_id: Option<String>,
    label: Label,
}

/// What a person said of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Label {
    Supported,
    Unsupported,
}

/// Labels by tenant, where one is named, and request id; the last line of a call counts.
type Labels = HashMap<(Option<String>, String), Label>;

/// One labelled call in work; none where the model has nothing to say.
type Measuring = JoinHandle<anyhow::Result<Option<Sample>>>;

/// Fits a calibration and writes it, with its risk–coverage curve beside it as SVG.
pub async fn run(config: &Config, args: CalibrateArgs, format: OutputFormat) -> anyhow::Result<bool> {
    ensure!(config.inference.enabled, "[inference] enabled is false: there is no model to calibrate");
    let labels = read_labels(&args.labels)?;
    let calls = match &args.calls {
        Some(file) => from_file(file, &labels)?,
        None => from_store(config, &labels).await?,
    };
    let missing = labels.len().saturating_sub(calls.len());
    if missing > 0 {
        eprintln!("aftercheck: {missing} of {} labels have no call and are left out", labels.len());
    }
    // The old calibration may be of another model, and is not needed: signals are the same without it.
    let mut bare = config.clone();
    bare.cascade.calibrated = false;
    let cascade = Arc::new(service::cascade(&bare)?);
    let samples = measure(&cascade, calls).await?;
    let digest = cascade.model_digest().context("no model")?;
    let settings = Settings {
        evidence: evidence_digest(digest, &config.nli),
        target_error: args.target_error,
        confidence: args.confidence,
        by_feature: !args.one_band,
    };
    let fitted = fit(&samples, &settings)?;
    let out = args.out.clone().unwrap_or_else(|| config.inference.model.join(CALIBRATION_FILE));
    let points = curve::points(&fitted.labelled);
    let picture = write(&fitted, &points, &out)?;
    match format {
        OutputFormat::Json => {
            say!("{}", json!({"calibration": fitted.calibration, "curve": points, "written": out}))
        }
        OutputFormat::Table => {
            print(&fitted, &points)?;
            say!("written: {} and {}", out.display(), picture.display());
        }
    }
    Ok(true)
}

/// Reads the labels.
fn read_labels(file: &Path) -> anyhow::Result<Labels> {
    let mut labels = Labels::new();
    for (number, line) in terminal::lines(file)?.enumerate() {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Line { request_id, tenant_id, label } = serde_json::from_slice(&line).with_context(|| {
            format!(
                "{} line {}: a label needs request_id and label, \"supported\" or \"unsupported\"",
                file.display(),
                number + 1
            )
        })?;
        labels.insert((tenant_id, request_id), label);
    }
    ensure!(!labels.is_empty(), "{}: no labels", file.display());
    Ok(labels)
}

/// The labelled calls of a file; of calls with the same id the first.
fn from_file(file: &Path, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let mut open = labels.clone();
    let mut calls = Vec::new();
    for line in terminal::lines(file)? {
        // What cannot be evaluated has no score to calibrate.
        let Ok(decoded) = decode(&line?) else { continue };
        let call = decoded.call;
        let named = (Some(call.tenant_id.clone()), call.request_id.clone());
        if let Some(label) = open.remove(&named).or_else(|| open.remove(&(None, named.1))) {
            calls.push((call, label));
        }
    }
    Ok(calls)
}

/// The labelled calls of the database.
async fn from_store(config: &Config, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let (database, store) = super::open(config).await?;
    let mut calls = Vec::new();
    for ((tenant, request_id), label) in labels {
        let stories = store.stories(tenant.as_deref(), request_id).await?;
        let mut received = stories.into_iter().filter_map(|story| story.received);
        let Some(first) = received.next() else { continue };
        if received.next().is_some() {
            bail!("request id {request_id} is known in several tenants: name tenant_id in its label");
        }
        calls.push((first.call, *label));
    }
    database.close().await;
    // A map has no order, and the folds go by place: the same labels shall give the same calibration.
    calls.sort_by(|a, b| (&a.0.tenant_id, &a.0.request_id).cmp(&(&b.0.tenant_id, &b.0.request_id)));
    Ok(calls)
}

/// Measures the support of every call, in order.
async fn measure(cascade: &Arc<Cascade>, calls: Vec<(Call, Label)>) -> anyhow::Result<Vec<Sample>> {
    let bar = terminal::bar(Some(calls.len() as u64), "calls");
    let mut measuring: VecDeque<Measuring> = VecDeque::new();
    let mut samples = Vec::with_capacity(calls.len());
    for (call, label) in calls {
        if measuring.len() >= IN_FLIGHT
            && let Some(first) = measuring.pop_front()
        {
            samples.extend(first.await??);
            bar.inc(1);
        }
        measuring.push_back(tokio::spawn(sample(Arc::clone(cascade), call, label)));
    }
    for rest in measuring {
        samples.extend(rest.await??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(samples)
}

/// Measures the support of one call.
async fn sample(cascade: Arc<Cascade>, call: Call, label: Label) -> anyhow::Result<Option<Sample>> {
    let call = Arc::new(call);
    let measured = cascade.measure(&call).await?.with_context(|| format!("call {}", call.request_id))?;
    // Calls that the model cannot judge are never decided, so that their errors are none of the band's.
    let judged = measured.filter(|found| found.doubt().is_none());
    Ok(judged.and_then(|found| found.signals).map(|signals| Sample {
        feature: call.feature.clone(),
        signals,
        supported: label == Label::Supported,
    }))
}

/// Writes the calibration, in one step so that a service never reads half of it, and the curve beside it. Gives the
/// curve's path.
fn write(fitted: &Fitted, points: &[Point], out: &Path) -> anyhow::Result<PathBuf> {
    let picture = out.with_extension("svg");
    let beside = out.with_extension("new");
    let calibration = &fitted.calibration;
    let text = serde_json::to_string_pretty(calibration)? + "\n";
    let failed = |path: &Path| format!("{}: cannot be written, name another file with --out", path.display());
    fs::write(&beside, text).with_context(|| failed(&beside))?;
    fs::rename(&beside, out).with_context(|| failed(out))?;
    let drawn = curve::svg(points, calibration.target_error, calibration.all.decided);
    fs::write(&picture, drawn.map_err(anyhow::Error::msg)?).with_context(|| failed(&picture))?;
    Ok(picture)
}

/// Prints the curve and the bands.
fn print(fitted: &Fitted, points: &[Point]) -> anyhow::Result<()> {
    let calibration = &fitted.calibration;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut curve = terminal::table(&["decided", "at confidence from", "error", "at most (95 %)"]);
    for point in points {
        curve.add_row(vec![
            percent(point.coverage),
            format!("{:.3}", point.confidence),
            percent(point.error),
            percent(point.bound),
        ]);
    }
    say!("{curve}");
    let mut bands = terminal::table(&["feature", "labels", "lo", "hi", "decided", "error"]);
    let row = |name: &str, slice: &Slice| {
        vec![
            terminal::harmless(name),
            slice.labels.to_string(),
            format!("{:.2}", slice.band.lo),
            format!("{:.2}", slice.band.hi),
            percent(slice.decided),
            percent(slice.error),
        ]
    };
    bands.add_row(row("all others", &calibration.all));
    for (feature, slice) in &calibration.features {
        bands.add_row(row(feature, slice));
    }
    say!("{bands}");
    let (target, confidence) = (percent(calibration.target_error), percent(calibration.confidence));
    say!("the bands keep the error among the decided at or below {target} with {confidence} confidence");
    if calibration.all.decided == 0.0 {
        say!("no band keeps to that: everything stays unsure; allow more errors or label more calls");
    }
    Ok(())
}

/// A share, more than 0 and less than 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    match share > 0.0 && share < 1.0 {
        true => Ok(share),
        false => Err("give a share between 0 and 1, such as 0.1 for 10 %".into()),
    }
}
