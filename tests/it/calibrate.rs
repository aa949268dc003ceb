//! `aftercheck calibrate`: labels in, a calibration out that changes what the same calls score.

use std::{
    fmt::Write,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use super::{models::tiny_encoder, service::Service};

const CALLS: &str = "examples/traffic.jsonl";

/// Runs a subcommand with the tiny model and these variables.
fn output(service: &Service, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = service.command(arguments);
    command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// What `score` says of the example traffic.
fn scored(service: &Service, variables: &[(&str, &str)]) -> Vec<Value> {
    let found = output(service, &["score", CALLS], variables);
    let lines = String::from_utf8(found.stdout).unwrap();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Labels that people might have given who agree with the model nine times out of ten.
fn labels(evaluations: &[Value]) -> String {
    let scores: Vec<(&Value, f64)> =
        evaluations.iter().filter_map(|one| Some((one, one["faithfulness"].as_f64()?))).collect();
    let mut sorted: Vec<f64> = scores.iter().map(|(_, score)| *score).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    scores.iter().enumerate().fold(String::new(), |mut lines, (place, (one, score))| {
        let supported = (*score >= middle) != place.is_multiple_of(10);
        let label = if supported { "supported" } else { "unsupported" };
        let line = json!({"request_id": one["request_id"], "tenant_id": one["tenant_id"], "label": label});
        writeln!(lines, "{line}").unwrap();
        lines
    })
}

#[test]
fn labels_make_a_calibration_that_scores_are_read_by() {
    let service = Service::new();
    if !service.has_model {
        return eprintln!("skipped: no tiny model, scripts/test makes it");
    }
    let before = scored(&service, &[]);
    let (labels_file, out) = (service.path("labels.jsonl"), service.path("own.json"));
    std::fs::write(&labels_file, labels(&before)).unwrap();
    let [labels, own] = [&labels_file, &out].map(|path| path.to_str().unwrap());
    let arguments = ["calibrate", labels, "--calls", CALLS, "--out", own, "--target-error", "0.3"];
    let printed = service.json(&arguments);
    let written: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(printed["calibration"], written);
    assert!(written["all"]["decided"].as_f64() > Some(0.1), "{written}");
    assert!(std::fs::read_to_string(service.path("own.svg")).unwrap().starts_with("<svg"));
    let after = scored(&service, &[("AFTERCHECK__CASCADE__CALIBRATION", own)]);
    assert_eq!(after.len(), before.len());
    assert_ne!(after[0]["evaluator_version"], before[0]["evaluator_version"]);
    assert!(after.iter().zip(&before).any(|(after, before)| after["faithfulness"] != before["faithfulness"]));
    let again = service.json(&arguments);
    assert_eq!(again["calibration"], written, "the same labels give the same calibration");
}

#[test]
fn a_calibration_of_other_windows_or_another_encoder_is_refused() {
    let service = Service::new();
    let Some(encoder) = tiny_encoder().filter(|_| service.has_model) else { return };
    let labels_file = service.path("labels.jsonl");
    std::fs::write(&labels_file, labels(&scored(&service, &[]))).unwrap();
    let [with, without] = ["with.json", "without.json"].map(|name| service.path(name));
    let [labels, with, without] = [&labels_file, &with, &without].map(|path| path.to_str().unwrap());
    let fit = |out: &str, variables: &[(&str, &str)]| -> Value {
        let arguments = ["calibrate", labels, "--calls", CALLS, "--out", out, "--target-error", "0.3"];
        let ended = output(&service, &arguments, variables);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
    };
    let no_encoder = ("AFTERCHECK__INFERENCE__EMBEDDING", "");
    assert_ne!(fit(with, &[])["weights"]["closeness"], 0.0);
    assert_eq!(fit(without, &[no_encoder])["weights"]["closeness"], 0.0);
    let same = ("AFTERCHECK__INFERENCE__EMBEDDING", encoder.to_str().unwrap());
    for (calibration, variable, fits) in [
        (with, same, true),
        (without, no_encoder, true),
        (with, no_encoder, false),
        (without, same, false),
        (with, ("AFTERCHECK__NLI__WINDOW_TOKENS", "99"), false),
    ] {
        let variables = [("AFTERCHECK__CASCADE__CALIBRATION", calibration), variable];
        let ended = output(&service, &["score", CALLS], &variables);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code() == Some(2), !fits, "{calibration} {variable:?}: {said}");
        let remedy = said.contains("aftercheck calibrate") && said.contains("calibrated = false");
        assert!(fits || remedy && said.contains("[inference] embedding"), "{said}");
    }
}

#[test]
fn labels_too_few_for_any_band_leave_the_calibration_as_it_was() {
    let service = Service::new();
    if !service.has_model {
        return eprintln!("skipped: no tiny model, scripts/test makes it");
    }
    let (labels_file, own) = (service.path("labels.jsonl"), service.path("own.json"));
    std::fs::write(&labels_file, labels(&scored(&service, &[]))).unwrap();
    std::fs::write(&own, "as it was").unwrap();
    let [labels, out] = [&labels_file, &own].map(|path| path.to_str().unwrap());
    let arguments = ["calibrate", labels, "--calls", CALLS, "--out", out, "--target-error", "0.001"];
    let refused = output(&service, &arguments, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("no band keeps") && said.contains("--target-error"), "{said}");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "as it was");
}

#[test]
fn labels_that_cannot_be_used_say_why() {
    let service = Service::new();
    if !service.has_model {
        return eprintln!("skipped: no tiny model, scripts/test makes it");
    }
    for (labels, said) in [
        ("", "no labels"),
        ("{\"request_id\": \"a\", \"label\": \"good\"}\n", "line 1: a label needs request_id and label"),
        (
            "{\"request_id\": \"nobody\", \"label\": \"supported\"}\n",
            "0 labelled calls with a score, 100 are needed",
        ),
    ] {
        std::fs::write(service.path("labels.jsonl"), labels).unwrap();
        let path = service.path("labels.jsonl");
        let refused = output(&service, &["calibrate", path.to_str().unwrap(), "--calls", CALLS], &[]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn labelled_calls_are_found_in_the_database() {
    let mut service = Service::new();
    if !service.has_model {
        return eprintln!("skipped: no tiny model, scripts/test makes it");
    }
    service.enqueue(3);
    assert!(service.drain(&[]).wait().unwrap().success());
    let path = service.path("labels.jsonl");
    let label = |id: &str| json!({"request_id": id, "label": "supported"});
    std::fs::write(&path, format!("{}\n{}\n", label("kill-1"), label("nobody"))).unwrap();
    let refused = output(&service, &["calibrate", path.to_str().unwrap()], &[]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("1 of 2 labels have no call"), "{error}");
}
