//! `aftercheck gold`: a call that failed becomes a test that the bad answer fails and the good one passes.

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use super::service::{Parts, Service, call};

/// Runs a subcommand.
fn output(service: &Service, arguments: &[&str]) -> Output {
    service.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// What a subcommand prints, with this exit code.
fn answer(service: &Service, arguments: &[&str], code: i32) -> Value {
    let found = output(service, arguments);
    let error = String::from_utf8_lossy(&found.stderr);
    assert_eq!(found.status.code(), Some(code), "{arguments:?}: {error}");
    serde_json::from_slice(&found.stdout).unwrap_or_else(|_| json!(error))
}

/// A service that has worked off the first calls of the fixtures, with this under `[review]`.
fn worked(review: &str) -> Service {
    let config = format!("[source]\nlease_secs = 1\n[review]\n{review}\n");
    let mut service = Service::of(Parts { config: Some(config), ..Parts::default() });
    service.enqueue(3);
    assert!(service.drain(&[]).wait().unwrap().success());
    service
}

#[test]
fn a_failure_becomes_a_test_that_the_bad_answer_fails_and_the_good_one_passes() {
    let service = worked("undo_secs = 0");
    let next = answer(&service, &["review", "next", "--reviewer", "ana"], 0);
    let request = next["review"]["request_id"].as_str().unwrap();
    let promote = ["gold", "promote", request, "--by", "ana"];
    assert!(
        answer(&service, &promote, 1).to_string().contains("have not decided"),
        "nobody has said anything"
    );
    let id = next["review"]["review_id"].as_str().unwrap();
    let good = "You can return it within 30 days.";
    let label = ["review", "label", id, "fail", "--reviewer", "ana", "--note", "made up", "--expected", good];
    assert_eq!(answer(&service, &label, 0)["decided"], "fail");
    let promoted = answer(&service, &promote, 0);
    assert_eq!(
        (promoted["outcome"].as_str(), promoted["golden"]["expected"].as_str()),
        (Some("new"), Some(good))
    );
    assert_eq!(answer(&service, &promote, 0)["outcome"], "same");
    let golden_id = promoted["golden"]["golden_id"].as_str().unwrap();
    let note = "ask ana.lopez@example.com";
    let edited = answer(&service, &["gold", "edit", golden_id, "--by", "eve", "--policy", note], 0);
    assert_eq!(edited["outcome"], "changed");
    assert!(!edited.to_string().contains("ana.lopez"), "what people write is redacted: {edited}");
    let shown = answer(&service, &["gold", "show", golden_id], 0);
    assert_eq!(shown["history"].as_array().unwrap().len(), 2);
    let better = "You can return it within 30 days, free of charge.";
    answer(&service, &["gold", "edit", golden_id, "--by", "eve", "--expected", better], 0);
    let again = answer(&service, &promote, 0);
    assert_eq!((&again["outcome"], &again["golden"]["expected"]), (&json!("same"), &json!(better)));
    answer(&service, &["gold", "edit", golden_id, "--by", "eve", "--expected", good], 0);
    assert!(service.drain(&[]).wait().unwrap().success());
    let sent = fs::read_to_string(service.path("out.jsonl")).unwrap();
    assert!(sent.contains(golden_id), "sinks have the row: {sent}");

    let bad = next["content"]["answer"].as_str().unwrap();
    let folder = service.path("gold");
    let export = ["gold", "export", "--dir", folder.to_str().unwrap()];
    exported_and_checked(&service, &export, golden_id, [bad, good]);
    answer(&service, &["gold", "remove", golden_id, "--by", "eve"], 0);
    assert!(answer(&service, &export, 1).to_string().contains("no rows"));
    assert!(
        answer(&service, &["gold", "remove", golden_id, "--by", "eve"], 1).to_string().contains("no such")
    );
}

/// Exports the row, twice to one file, and checks a bad, a good and no answer against it.
fn exported_and_checked(service: &Service, export: &[&str], golden_id: &str, [bad, good]: [&str; 2]) {
    let folder = service.path("gold");
    let first = answer(service, export, 0);
    assert_eq!(
        (first["new"].as_bool(), answer(service, export, 0)["new"].as_bool()),
        (Some(true), Some(false))
    );
    let file = folder.join("golden_v1.jsonl");
    assert_eq!(first["file"].as_str(), file.to_str());
    let fresh = service.path("fresh.jsonl");
    let junit = service.path("gold.xml");
    let markdown = service.path("gold.md");
    let [file, answers, xml, summary] = [&file, &fresh, &junit, &markdown].map(|path| path.to_str().unwrap());
    let check = ["gold", "check", file, "--answers", answers, "--junit", xml, "--markdown", summary];
    fs::write(&fresh, json!({"golden_id": golden_id, "answer": bad}).to_string()).unwrap();
    let failed = answer(service, &check, 1);
    assert_eq!(
        (failed["regressed"].as_u64(), failed["passed"].as_bool()),
        (Some(1), Some(false)),
        "{failed}"
    );
    assert!(fs::read_to_string(&junit).unwrap().contains("failures=\"1\""));
    assert!(fs::read_to_string(&markdown).unwrap().starts_with("## Golden set: failed"));
    fs::write(&fresh, json!({"golden_id": golden_id, "answer": good}).to_string()).unwrap();
    assert_eq!(answer(service, &check, 0)["held"], 1);
    assert!(fs::read_to_string(&junit).unwrap().contains("failures=\"0\""));
    fs::write(&fresh, "").unwrap();
    assert_eq!(answer(service, &check, 1)["missing"], 1);
    let lenient = [&check[..], &["--allow-missing"]].concat();
    assert_eq!(answer(service, &lenient, 0)["missing"], 1);
    fs::write(&fresh, json!({"request_id": "who", "answer": good}).to_string()).unwrap();
    assert!(answer(service, &check, 2).to_string().contains("no row has the golden_id"));
}

#[test]
fn a_call_is_found_by_the_id_that_its_producer_wrote_and_its_schema_holds_for_fresh_answers() {
    let config = "[source]\nlease_secs = 1\n[review]\nundo_secs = 0\n".to_owned();
    let service = Service::of(Parts { config: Some(config), ..Parts::default() });
    let request = "ana@example.org-1";
    let mut reviewed = call(1);
    reviewed["request_id"] = request.into();
    reviewed["feedback"] = json!({"thumbs": "down"});
    // It keeps to its schema, or no person would be asked.
    reviewed["content"]["answer"] = "7".into();
    reviewed["content"]["output_schema"] = json!({"type": "integer"});
    let mut enqueue = service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(enqueue.stdin.take().unwrap(), "{reviewed}").unwrap();
    assert!(enqueue.wait().unwrap().success());
    assert!(service.drain(&[]).wait().unwrap().success());
    let next = answer(&service, &["review", "next", "--reviewer", "ana"], 0);
    let id = next["review"]["review_id"].as_str().unwrap();
    answer(&service, &["review", "label", id, "fail", "--reviewer", "ana"], 0);
    let promoted = answer(&service, &["gold", "promote", request, "--tenant", "acme", "--by", "ana"], 0);
    assert_eq!(promoted["golden"]["output_schema"], json!({"type": "integer"}), "{promoted}");
    assert!(!promoted.to_string().contains("ana@example.org"), "{promoted}");

    let folder = service.path("gold");
    answer(&service, &["gold", "export", "--dir", folder.to_str().unwrap()], 0);
    let (file, fresh) = (folder.join("golden_v1.jsonl"), service.path("fresh.jsonl"));
    let check = ["gold", "check", file.to_str().unwrap(), "--answers", fresh.to_str().unwrap()];
    fs::write(&fresh, json!({"request_id": request, "answer": "Yes, it is."}).to_string()).unwrap();
    let failed = answer(&service, &check, 1);
    assert_eq!(
        (&failed["regressed"], &failed["rows"][0]["why"]),
        (&json!(1), &json!("rule_failed")),
        "{failed}"
    );
}

#[test]
fn a_row_takes_what_a_reviewer_wrote_who_said_the_same() {
    let service = worked("second_share = 1.0");
    let next = answer(&service, &["review", "next", "--reviewer", "ana"], 0);
    let id = next["review"]["review_id"].as_str().unwrap();
    let first =
        ["review", "label", id, "fail", "--reviewer", "ana", "--note", "made up", "--expected", "No."];
    answer(&service, &first, 0);
    assert_eq!(answer(&service, &["review", "label", id, "fail", "--reviewer", "ben"], 0)["decided"], "fail");
    let row = answer(&service, &["gold", "promote", id, "--review", "--by", "eve"], 0)["golden"].clone();
    assert_eq!((&row["expected"], &row["notes"]), (&json!("No."), &json!("made up")), "{row}");
}

#[test]
fn whoever_decides_between_reviewers_is_not_counted_among_those_who_agree() {
    let service = worked("second_share = 1.0");
    let next = answer(&service, &["review", "next", "--reviewer", "ana"], 0);
    let (id, request) = (&next["review"]["review_id"], &next["review"]["request_id"]);
    let [id, request] = [id, request].map(|text| text.as_str().unwrap());
    for (action, who, said) in
        [("label", "ana", "fail"), ("label", "ben", "pass"), ("adjudicate", "eve", "fail")]
    {
        answer(&service, &["review", action, id, said, "--reviewer", who], 0);
    }
    let golden = &answer(&service, &["gold", "promote", request, "--by", "eve"], 0)["golden"];
    assert_eq!((&golden["agreement"], &golden["label"]), (&json!(0.5), &json!("fail")), "one of two");
}
