//! What can be done with the API alone: a call is reviewed, kept, changed and exported; what is dead is tried again; sinks are
//! paused.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{
    super::{
        doors,
        service::{call, eventually},
    },
    Scene,
};

#[test]
fn a_call_is_reviewed_kept_changed_exported_and_removed() {
    let scene = Scene::new("");
    let review = scene.review_id();
    let evaluations = scene.get("/v1/evaluations/acme/kill-1");
    assert_eq!(evaluations["evaluations"][0]["request_id"], "kill-1");
    let (status, taken) = scene.admin("POST", "/v1/reviews/next", &Value::Null);
    assert_eq!((status, &taken["review_id"]), (200, &json!(review)), "{taken}");
    assert_eq!(taken["call"]["content"]["answer"], "The answer is yes.");
    assert!(taken["evaluation"]["verdict"].is_string() && taken["until_ms"].is_i64());
    let queue = scene.get("/v1/overview")["queue"].clone();
    assert!(queue["open"] == 1 && queue["oldest_ms"].is_i64(), "{queue}");
    let label = format!("/v1/reviews/{review}/label");
    let wrong = json!({"said": "fail", "token": "00000000-0000-4000-8000-000000000000"});
    let (status, refused) = scene.admin("POST", &label, &wrong);
    assert!(status == 409 && refused["faults"][0]["class"].is_string(), "{status} {refused}");
    let said = json!({"said": "fail", "token": taken["token"], "note": "ask ana@example.com\u{0}", "expected": "No."});
    let (status, labelled) = scene.admin("POST", &label, &said);
    assert_eq!((status, labelled), (200, json!({"state": "closed", "decided": "fail"})));
    let why = scene.get("/v1/why/acme/kill-1");
    let note = why["labels"][0]["note"].as_str().unwrap();
    assert!(!note.contains("example.com") && note.contains('\u{fffd}'), "{note}");
    assert_eq!(scene.get("/v1/reviews?state=closed&limit=1")["next"], json!(review));
    assert_eq!(scene.get(&format!("/v1/reviews?state=closed&after={review}"))["reviews"], json!([]));
    let gone = "/v1/reviews?after=00000000-0000-4000-8000-000000000000";
    assert_eq!(scene.admin("GET", gone, &Value::Null).0, 404);
    let undo = |body: &Value| scene.admin("POST", "/v1/reviews/undo", body);
    assert_eq!(undo(&Value::Null).0, 200);
    assert_eq!(scene.admin("POST", &label, &json!({"said": "pass"})).0, 200);
    for _ in 0..2 {
        let (status, item) = undo(&json!({"review_id": review}));
        assert_eq!((status, &item["review_id"], &item["state"]), (200, &json!(review), &json!("open")));
    }
    assert_eq!(undo(&json!({"review_id": "00000000-0000-4000-8000-000000000000"})).0, 404);
    assert_eq!(undo(&json!({"item": review})).0, 422);
    assert_eq!(undo(&Value::Null).0, 404, "none stands");
    assert_eq!(scene.admin("POST", &label, &json!({"said": "fail", "expected": "No."})).0, 200);

    let call = json!({"of": {"call": {"tenant_id": "acme", "request_id": "kill-1"}}, "policy": "Be short."});
    let (status, promoted) = scene.admin("POST", "/v1/golden", &call);
    assert_eq!((status, &promoted["outcome"]), (200, &json!("new")), "{promoted}");
    let row = format!("/v1/golden/{}", promoted["golden"]["golden_id"].as_str().unwrap());
    assert_eq!(scene.admin("PATCH", &row, &json!({"expected": "Never."})).1["outcome"], "changed");
    let late = json!({"expected": "Perhaps.", "digest": "of the row before"});
    assert_eq!(scene.admin("PATCH", &row, &late).0, 409, "somebody else has changed it");
    let read = scene.get(&row)["row"]["digest"].clone();
    let same = json!({"expected": "Never.", "policy": "Be brief.", "digest": read});
    assert_eq!(scene.admin("PATCH", &row, &same).1["outcome"], "changed");
    assert_eq!(scene.admin("PATCH", &row, &json!({"policy": "Be short."})).1["outcome"], "changed");
    let datasets = scene.get("/v1/golden/datasets");
    assert_eq!(datasets, json!({"datasets": [{"dataset": "golden", "rows": 1}]}));
    assert_eq!(scene.get("/v1/golden?limit=1")["next"], promoted["golden"]["golden_id"]);
    let headers = [&*doors::bearer(&scene.admin)];
    let (status, file) = scene.running.request("GET", "/v1/golden/export", &headers, b"");
    let line: Value = serde_json::from_str(file.trim()).unwrap();
    assert_eq!((status, &line["expected"], &line["policy"]), (200, &json!("Never."), &json!("Be short.")));
    assert_eq!(scene.admin("DELETE", &row, &Value::Null).0, 204);
    assert_eq!(scene.admin("DELETE", &row, &Value::Null).0, 404);
}

#[test]
fn a_label_is_asked_for_once() {
    let scene = Scene::new("");
    let mut failing = call(2);
    failing["content"]["answer"] = "Pay to DE89 3704 0044 0532 0130 00.".into();
    scene.enqueue(&failing.to_string());
    let ids = json!({"tenant_id": "acme", "request_id": "kill-2"});
    let ask = || scene.admin("POST", "/v1/reviews", &ids);
    let first = eventually(|| Some(ask()).filter(|(status, _)| *status == 200)).expect("it is evaluated");
    assert_eq!(first.1, json!({"is_new": true, "to_review": true}));
    assert_eq!(ask().1, json!({"is_new": false, "to_review": false}));
    let waiting = scene.get("/v1/reviews")["reviews"].to_string();
    assert_eq!(
        (waiting.matches("\"requested\"").count(), waiting.matches("kill-2").count()),
        (1, 1),
        "{waiting}"
    );
    assert_eq!(
        scene.admin("POST", "/v1/reviews", &json!({"tenant_id": "acme", "request_id": "never-came"})).0,
        404
    );
}

#[test]
fn nothing_is_told_of_what_others_said_until_it_is_decided() {
    let scene = Scene::new("[review]\nsecond_share = 1.0\n");
    let review = scene.review_id();
    // Another name than that of the admin's key: who has said something may know it.
    let arguments = ["keys", "add", "eve", "--role", "review"];
    let output = scene.service.command(&arguments).stdout(Stdio::piped()).output().unwrap();
    let eve = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let label = format!("/v1/reviews/{review}/label");
    let note = json!({"said": "fail", "note": "the price is wrong"});
    assert_eq!(scene.ask(&scene.admin, "POST", &label, &note).1["state"], "open");
    let places = ["/v1/why/acme/kill-1", &format!("/v1/reviews/{review}"), "/v1/reviews"];
    for place in places {
        let told = scene.ask(&eve, "GET", place, &Value::Null).1.to_string();
        assert!(
            told.contains("kill-1") && !told.contains("price is wrong") && !told.contains("fail by"),
            "{told}"
        );
    }
    let next = scene.ask(&eve, "POST", "/v1/reviews/next", &Value::Null).1.to_string();
    assert!(next.contains(&review) && !next.contains("price is wrong"), "{next}");
    assert_eq!(scene.ask(&eve, "POST", &label, &json!({"said": "fail"})).1["decided"], "fail");
    let why = scene.ask(&eve, "GET", "/v1/why/acme/kill-1", &Value::Null).1;
    assert!(
        why["labels"].as_array().unwrap().len() == 2 && why.to_string().contains("price is wrong"),
        "{why}"
    );
}

#[test]
fn golden_rows_that_are_alike_or_personal_are_not_exported() {
    let scene = Scene::new("");
    let golden = scene.golden_id();
    let path = "/v1/golden/export";
    assert_eq!(scene.running.request("GET", path, &[&doors::bearer(&scene.admin)], b"").0, 200);
    // Written behind redaction, as an older policy may have left it.
    scene.service.database(async |database| {
        let mut tx = database.write().await.unwrap();
        let told =
            "UPDATE golden SET content = json_set(content, '$.expected', 'write to ana.lopez@example.com')";
        sqlx::query(told).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    });
    let (status, refused) = scene.admin("GET", path, &Value::Null);
    let fault = json!({"golden_id": golden, "field": "/expected"});
    assert_eq!((status, &refused["faults"][0]), (422, &fault), "{refused}");
    let (status, refused) = scene.admin("GET", "/v1/golden/export?dataset=../x", &Value::Null);
    assert!(
        status == 422 && refused["error"].as_str().unwrap().contains("name of the data set"),
        "{refused}"
    );
}

#[test]
fn what_is_dead_is_tried_again_or_dropped_and_the_ledger_says_by_whom() {
    let scene = Scene::new("");
    let dead = scene.dead_id();
    let place = format!("/v1/dead/{dead}");
    let shown = scene.get(&place);
    assert!(shown["kind"] == "letter" && shown["payload"].as_str().unwrap().contains("kill-10"), "{shown}");
    assert_eq!(scene.get("/v1/dead?class=bad_json")["letters"], json!([]));
    assert_eq!(scene.admin("POST", &format!("{place}/requeue"), &Value::Null).0, 204);
    // It is as wrong as before: the same letter comes back.
    let back = eventually(|| (scene.admin("GET", &place, &Value::Null).0 == 200).then_some(()));
    back.expect("it is buried again");
    assert_eq!(scene.admin("DELETE", &place, &Value::Null).0, 204);
    assert_eq!(scene.admin("DELETE", &place, &Value::Null).0, 404);
    let ledger = scene.get("/v1/why/acme/kill-10")["ledger"].to_string();
    assert!(ledger.contains("requeued") && ledger.contains("dropped") && ledger.contains("shop"), "{ledger}");
}

#[test]
fn sinks_are_paused_and_resumed() {
    let scene = Scene::new("");
    let pause = "/v1/sinks/archive/pause";
    let told = |changed: bool, paused: bool| json!({"sink": "archive", "paused": paused, "changed": changed});
    assert_eq!(scene.admin("POST", pause, &Value::Null), (200, told(true, true)));
    assert_eq!(scene.admin("POST", pause, &Value::Null), (200, told(false, true)));
    let standing = &scene.get("/v1/sinks")["sinks"][0];
    assert!(
        standing["sink"] == "archive" && standing["paused_ms"].is_i64() && standing["configured"] == true
    );
    assert_eq!(scene.admin("POST", "/v1/sinks/archive/resume", &Value::Null), (200, told(true, false)));
    assert_eq!(scene.admin("POST", "/v1/sinks/other/pause", &Value::Null).0, 404);
}

#[test]
fn the_report_has_the_share_of_wrong_passes_with_its_interval() {
    let scene = Scene::new("[cascade]\naudit_rate = 1.0\n");
    let mut call = super::call(2);
    call["request_id"] = json!("audited");
    assert_eq!(scene.admin("POST", "/v1/calls", &call).0, 202);
    let decided = eventually(|| {
        let report = scene.get("/v1/report");
        (report["verdicts"].as_object()?.values().filter_map(Value::as_u64).sum::<u64>() == 2)
            .then_some(report)
    });
    let report = decided.expect("both calls are evaluated");
    assert!(
        report["audit"]["drawn"].is_u64() && report["audit"]["false_pass_by_feature"].is_object(),
        "{report}"
    );
    assert_eq!(report["dead_letters"].as_object().unwrap().len(), 1);
    let later = scene.get("/v1/report?since=2200-01-01T00:00:00Z");
    assert_eq!(later["verdicts"], json!({}), "{later}");
}

#[test]
fn feedback_that_comes_later_is_joined_on_the_id_and_seen_in_the_story() {
    let scene = Scene::new("");
    scene.review_id();
    let late = json!({"tenant_id": "acme", "request_id": "kill-1", "escalated": true});
    let send = |body: &Value| scene.admin("POST", "/v1/feedback", body);
    // It is in review already: nothing comes twice.
    assert_eq!(send(&late), (200, json!({"is_new": true, "to_review": false})));
    assert_eq!(send(&late), (200, json!({"is_new": false, "to_review": false})));
    assert_eq!(scene.get("/v1/reviews")["reviews"].as_array().unwrap().len(), 1);
    assert!(scene.get("/v1/why/acme/kill-1")["ledger"].to_string().contains("\"escalated\""));
    let (status, unknown) = send(&json!({"tenant_id": "acme", "request_id": "never-came", "thumbs": "down"}));
    assert!(status == 404 && unknown["error"].as_str().unwrap().contains("send it again later"), "{unknown}");
    for unfit in [json!({"csat": 6}), json!({"csat": null}), json!({}), json!({"stars": 5})] {
        let mut body = json!({"tenant_id": "acme", "request_id": "kill-1"});
        body.as_object_mut().unwrap().extend(unfit.as_object().unwrap().clone());
        assert_eq!(send(&body).0, 422, "{body}");
    }
}

#[test]
fn people_and_programs_are_let_in_changed_and_shown_out() {
    let scene = Scene::new("");
    scene.review_id();
    let (status, added) =
        scene.admin("POST", "/v1/people", &json!({"name": "ana", "role": "review", "tenants": ["acme"]}));
    let password = added["password"].as_str().unwrap_or_default().to_owned();
    assert!(status == 200 && added["name"] == "ana" && password.len() >= 15, "{status} {added}");
    assert_eq!(scene.admin("POST", "/v1/people", &json!({"name": "ana", "role": "read"})).0, 409);
    for unfit in
        [json!({"name": " ", "role": "read"}), json!({"name": "b", "role": "read", "password": "short"})]
    {
        assert_eq!(scene.admin("POST", "/v1/people", &unfit).0, 422, "{unfit}");
    }
    let enter = |password: &str| doors::sign_in(&scene.running, "ana", password);
    let sees = |cookie: &str| scene.running.request("GET", "/v1/evaluations", &[cookie], b"");
    let cookie = doors::cookie(&enter(&password));
    assert!(sees(&cookie).1.contains("kill-1"));
    let change = |body: Value| scene.admin("PATCH", "/v1/people/ana", &body).0;
    let unfit = json!({"role": "admin", "tenants": null, "password": "short"});
    assert_eq!(change(unfit), 422);
    assert_eq!(scene.get("/v1/people")["people"][0]["role"], "review", "all or nothing");
    assert_eq!(change(json!({"tenants": ["globex"], "role": "read"})), 204);
    assert_eq!(sees(&cookie).0, 401, "their sessions are over");
    let cookie = doors::cookie(&enter(&password));
    assert!(sees(&cookie).0 == 200 && !sees(&cookie).1.contains("kill-1"));
    assert_eq!(change(json!({"tenants": null, "features": ["g"], "password": "a new password of ana"})), 204);
    let person = scene.get("/v1/people")["people"][0].clone();
    assert_eq!(
        (&person["tenants"], &person["features"], &person["role"]),
        (&Value::Null, &json!(["g"]), &json!("read"))
    );
    assert_eq!(change(json!({"disabled": true})), 204);
    assert_eq!(doors::status(&enter("a new password of ana")), 401);
    assert_eq!(scene.admin("PATCH", "/v1/people/nobody", &json!({"disabled": true})).0, 404);
}

#[test]
fn a_program_gets_a_key_once_and_the_log_tells_who_did_what() {
    let scene = Scene::new("");
    let ana = json!({"name": "ana", "role": "read", "password": "a password of somebody"});
    assert_eq!(scene.admin("POST", "/v1/people", &ana).0, 200);
    assert_eq!(
        scene.admin("PATCH", "/v1/people/ana", &json!({"role": "review", "tenants": ["acme"]})).0,
        204
    );
    let (status, made) = scene.admin("POST", "/v1/keys", &json!({"name": "shop", "role": "read"}));
    let (key, prefix) = (made["key"].as_str().unwrap(), made["prefix"].as_str().unwrap());
    assert!(status == 200 && key.starts_with(prefix), "{status} {made}");
    assert_eq!(scene.ask(key, "GET", "/v1/overview", &Value::Null).0, 200);
    let listed = scene.get("/v1/keys").to_string();
    assert!(listed.contains(prefix) && !listed.contains(key), "{listed}");
    assert_eq!(scene.admin("DELETE", &format!("/v1/keys/{prefix}"), &Value::Null).0, 204);
    assert_eq!(scene.ask(key, "GET", "/v1/overview", &Value::Null).0, 401);
    assert_eq!(scene.admin("DELETE", &format!("/v1/keys/{prefix}"), &Value::Null).0, 404);

    let page = scene.get("/v1/audit?limit=1")["entries"][0].clone();
    let older = scene.get(&format!("/v1/audit?limit=1&before={}", page["entry_id"]))["entries"][0].clone();
    assert!(
        older["entry_id"].as_i64() < page["entry_id"].as_i64() && page["what"] == "key_revoked",
        "{page} {older}"
    );
    let log = scene.get("/v1/audit?limit=200").to_string();
    for what in ["person_added", "role_set", "granted", "key_added", "key_revoked"] {
        assert!(log.contains(what), "no {what} in {log}");
    }
    assert!(!log.contains("a password of somebody") && !log.contains(key), "the log has a secret");
}

#[test]
fn who_decides_between_labels_reads_them_without_names() {
    let scene = Scene::new("[review]\nsecond_share = 1.0\n");
    let review = scene.review_id();
    let key = |name: &str| {
        let arguments = ["keys", "add", name, "--role", "review"];
        let output = scene.service.command(&arguments).stdout(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let label = format!("/v1/reviews/{review}/label");
    for (name, said) in [("ana", "fail"), ("bert", "pass")] {
        let body = json!({"said": said, "note": format!("because of <{said}>")});
        assert_eq!(scene.ask(&key(name), "POST", &label, &body).0, 200);
    }
    let eve = key("eve");
    let (status, taken) = scene.ask(&eve, "POST", "/v1/reviews/next?disputed=true", &Value::Null);
    assert_eq!(status, 200, "{taken}");
    let opinions: Vec<(&str, &str)> = taken["opinions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["said"].as_str().unwrap(), one["note"].as_str().unwrap()))
        .collect();
    assert_eq!(opinions, [("fail", "because of <fail>"), ("pass", "because of <pass>")]);
    assert!(!taken.to_string().contains("ana") && !taken.to_string().contains("bert"), "{taken}");
    let headers = [&*doors::bearer(&eve)];
    let (_, page) = scene.running.request("GET", "/review?disputed=true", &headers, b"");
    assert!(page.contains("What was said") && page.contains("because of &#60;pass&#62;"), "{page}");
    let decision = json!({"said": "fail", "adjudicates": true, "token": taken["token"]});
    assert_eq!(scene.ask(&eve, "POST", &label, &decision).1["decided"], "fail");
    assert_eq!(
        scene.ask(&eve, "GET", &format!("/v1/reviews/{review}"), &Value::Null).1["opinions"],
        json!([])
    );
}
