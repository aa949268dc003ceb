//! `aftercheck calibrate LABELS.jsonl`

use std::{
    collections::{BTreeMap, VecDeque},
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
    inference::InferenceError,
    pipeline::{cascade::Cascade, decide::CascadeConfig, decode::decode},
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

/// Labels by request id, then tenant where one is named; the last line of a call counts.
type Labels = BTreeMap<String, BTreeMap<Option<String>, Label>>;

/// One labelled call in work.
type Measuring = JoinHandle<anyhow::Result<Measured>>;

/// What became of a labelled call.
enum Measured {
    /// It tells something about the scale.
    Sample(Sample),
    /// It has no claims or contexts, or was not read whole, or cannot be judged: the band never decides it.
    LeftOut,
    /// The model could not run on it.
    Failed(InferenceError),
}

/// Fits a calibration and writes it, with its risk–coverage curve beside it as SVG.
pub async fn run(config: &Config, args: CalibrateArgs, format: OutputFormat) -> anyhow::Result<bool> {
    ensure!(config.inference.enabled, "[inference] enabled is false: there is no model to calibrate");
    let out = args.out.clone().unwrap_or_else(|| config.inference.model.join(CALIBRATION_FILE));
    ensure!(
        out.extension().is_none_or(|extension| extension != "svg"),
        "--out names the JSON file; the curve is written beside it as .svg"
    );
    let labels = read_labels(&args.labels)?;
    let calls = match &args.calls {
        Some(file) => from_file(file, &labels)?,
        None => from_store(config, &labels).await?,
    };
    let count: usize = labels.values().map(BTreeMap::len).sum();
    if calls.len() < count {
        eprintln!("aftercheck: {} of {count} labels have no call and are left out", count - calls.len());
    }
    // The old calibration may be of another model, and is not needed: signals are the same without it.
    let mut bare = config.clone();
    bare.cascade = CascadeConfig { calibrated: false, lo: None, hi: None, ..bare.cascade };
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
        labels.entry(request_id).or_default().insert(tenant_id, label);
    }
    ensure!(!labels.is_empty(), "{}: no labels", file.display());
    Ok(labels)
}

/// The labelled calls of a file; of calls with the same id the first.
fn from_file(file: &Path, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let mut found = BTreeMap::new();
    for line in terminal::lines(file)? {
        // What cannot be evaluated has no score to calibrate.
        let Ok(decoded) = decode(&line?) else { continue };
        let call = decoded.call;
        if labels.contains_key(&call.request_id) {
            found.entry((call.request_id.clone(), call.tenant_id.clone())).or_insert(call);
        }
    }
    matched(found, labels)
}

/// The labelled calls of the database.
async fn from_store(config: &Config, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let (database, store) = super::open(config).await?;
    let mut found = BTreeMap::new();
    for request_id in labels.keys() {
        let stories = store.stories(None, request_id).await?;
        let received = stories.into_iter().filter_map(|story| story.received);
        found.extend(received.map(|first| ((request_id.clone(), first.call.tenant_id.clone()), first.call)));
    }
    database.close().await;
    matched(found, labels)
}

/// Gives each call its label: that of its tenant, or one without a tenant where no other tenant has the request id.
/// In order of their ids: the folds go by place, and the same labels shall give the same calibration.
fn matched(found: BTreeMap<(String, String), Call>, labels: &Labels) -> anyhow::Result<Vec<(Call, Label)>> {
    let mut tenants: BTreeMap<String, usize> = BTreeMap::new();
    for (request_id, _) in found.keys() {
        *tenants.entry(request_id.clone()).or_default() += 1;
    }
    let mut calls = Vec::with_capacity(found.len());
    for ((request_id, tenant), call) in found {
        let Some(given) = labels.get(&request_id) else { continue };
        let label = match (given.get(&Some(tenant)), given.get(&None)) {
            (Some(own), _) => own,
            (None, Some(any)) if tenants.get(&request_id) == Some(&1) => any,
            (None, Some(_)) => {
                bail!("request id {request_id} is known in several tenants: name tenant_id in its label")
            }
            (None, None) => continue,
        };
        calls.push((call, *label));
    }
    Ok(calls)
}

/// Measures the support of every call, in order; says how many are left out.
async fn measure(cascade: &Arc<Cascade>, calls: Vec<(Call, Label)>) -> anyhow::Result<Vec<Sample>> {
    let bar = terminal::bar(Some(calls.len() as u64), "calls");
    let mut measuring: VecDeque<Measuring> = VecDeque::new();
    let (mut samples, mut left_out, mut failed) = (Vec::with_capacity(calls.len()), 0u64, Vec::new());
    let mut calls = calls.into_iter();
    loop {
        while measuring.len() < IN_FLIGHT
            && let Some((call, label)) = calls.next()
        {
            measuring.push_back(tokio::spawn(sample(Arc::clone(cascade), call, label)));
        }
        let Some(first) = measuring.pop_front() else { break };
        match first.await?? {
            Measured::Sample(sample) => samples.push(sample),
            Measured::LeftOut => left_out += 1,
            Measured::Failed(error) => failed.push(error),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if left_out > 0 {
        eprintln!(
            "aftercheck: {left_out} labelled calls have nothing that the band would decide, and are left out"
        );
    }
    if let Some(error) = failed.first() {
        eprintln!(
            "aftercheck: the model could not run on {} calls, they are left out: {error}",
            failed.len()
        );
    }
    Ok(samples)
}

/// Measures the support of one call.
async fn sample(cascade: Arc<Cascade>, call: Call, label: Label) -> anyhow::Result<Measured> {
    let call = Arc::new(call);
    let measured = match cascade.measure(&call).await? {
        Ok(measured) => measured,
        Err(error) => return Ok(Measured::Failed(error)),
    };
    // Calls that are reviewed whatever their number is say nothing about the band's errors.
    let judged = measured.filter(|found| found.doubt().is_none() && !found.is_truncated());
    let signals = judged.and_then(|found| found.signals);
    Ok(signals.map_or(Measured::LeftOut, |signals| {
        let (feature, supported) = (call.feature.clone(), label == Label::Supported);
        Measured::Sample(Sample { feature, signals, supported })
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
    let drawn = curve::svg(points, calibration.target_error, calibration.all.decided);
    fs::write(&picture, drawn.map_err(anyhow::Error::msg)?).with_context(|| failed(&picture))?;
    fs::write(&beside, text).with_context(|| failed(&beside))?;
    fs::rename(&beside, out).with_context(|| failed(out))?;
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
    say!(
        "each band keeps the error among the calls that it decides at or below {target} with {confidence} confidence,\n\
         on traffic like the labelled; rules, refusals and feedback have their say besides"
    );
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
