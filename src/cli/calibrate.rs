//! `aftercheck calibrate LABELS.jsonl`

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;

use super::{
    OutputFormat,
    in_order::in_order,
    labels::{self, Label, Labels},
    terminal,
};
use crate::{
    config::Config,
    domain::Call,
    evaluators::nli::calibration::{
        CALIBRATION_FILE, Calibration, Slice,
        curve::{self, Point},
        evidence_digest,
        fit::{Fitted, Sample, Settings, fit},
    },
    inference::InferenceError,
    pipeline::{cascade::Cascade, decide::CascadeConfig},
    service,
};

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
A label is a line of JSON: {\"request_id\": \"order-4711\", \"tenant_id\": \"acme\", \"label\": \"supported\"}, \
or \"unsupported\"; tenant_id may be left out where the request id says enough. Other keys are ignored.

Examples:
  aftercheck calibrate                                    what people said with `aftercheck review`
  aftercheck calibrate labels.jsonl                       the calls are in the database
  aftercheck calibrate labels.jsonl --calls calls.jsonl   no database
  aftercheck calibrate labels.jsonl --target-error 0.05   fewer decided, fewer of them wrongly")]
pub struct CalibrateArgs {
    /// File of labels, JSON lines, or - for stdin [default: what people said at the review queue].
    labels: Option<PathBuf>,
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
    let redactor = service::redactor(config)?;
    let labels = labels_of(config, &args, &redactor).await?;
    let calls = match &args.calls {
        Some(file) => labels::calls_of_file(file, &labels, &redactor)?,
        None => labels::calls_of_store(config, &labels).await?,
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
    if format == OutputFormat::Table {
        print_curve(&points)?;
    }
    // Written, it would take the place of one that decides something.
    ensure!(
        fitted.calibration.decides(),
        "no band keeps the error among the decided at or below {} with {} confidence on {} labelled calls: label more \
         of them, or allow more with --target-error; nothing was written",
        percent(args.target_error),
        percent(args.confidence),
        samples.len()
    );
    let picture = write(&fitted, &points, &out)?;
    match format {
        OutputFormat::Json => {
            say!("{}", json!({"calibration": fitted.calibration, "curve": points, "written": out}))
        }
        OutputFormat::Table => {
            print_bands(&fitted.calibration)?;
            say!("written: {} and {}", out.display(), picture.display());
        }
    }
    Ok(true)
}

/// The labels of the file that is named, else those that people gave in the store.
async fn labels_of(
    config: &Config,
    args: &CalibrateArgs,
    redactor: &crate::redaction::Redactor,
) -> anyhow::Result<Labels> {
    if let Some(file) = &args.labels {
        return labels::read(file, redactor);
    }
    let (databases, store) = super::open(config).await?;
    let labels = labels::of_store(&*store).await?;
    databases.close().await;
    ensure!(!labels.is_empty(), "nobody has labelled a call yet: see `aftercheck review`, or name a file");
    Ok(labels)
}

/// Measures the support of every call, in order; says how many are left out.
async fn measure(cascade: &Arc<Cascade>, calls: Vec<(Call, Label)>) -> anyhow::Result<Vec<Sample>> {
    let bar = terminal::bar(Some(calls.len() as u64), "calls");
    let (mut samples, mut left_out, mut failed) = (Vec::with_capacity(calls.len()), 0u64, Vec::new());
    let start = |(call, label)| Ok(tokio::spawn(sample(Arc::clone(cascade), call, label)));
    let finish = |measured: anyhow::Result<Measured>| {
        match measured? {
            Measured::Sample(sample) => samples.push(sample),
            Measured::LeftOut => left_out += 1,
            Measured::Failed(error) => failed.push(error),
        }
        bar.inc(1);
        Ok(())
    };
    in_order(calls.into_iter(), start, finish).await?;
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

/// A share for people.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Prints what deciding more would cost.
fn print_curve(points: &[Point]) -> anyhow::Result<()> {
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
    Ok(())
}

/// Prints the bands and what they promise.
fn print_bands(calibration: &Calibration) -> anyhow::Result<()> {
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
