//! What of a call stays and for how long, as the service does it and the command line shows it.

use std::{fs, io::Write, process::Stdio};

use serde_json::{Value, json};

use super::service::{Parts, Running, Service, call, ended, eventually};

/// A value that only the debug share has, sealed.
const CARD: &str = "4111 1111 1111 1111";

/// A service that cuts answers of production after ten characters, and seals all messages.
fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "0a".repeat(32)).unwrap();
    let config = format!(
        "[source]\nlease_secs = 1\n[retention]\nanswer_chars = 10\n[retention.sealed]\nshare = 1.0\nkey_file = {key:?}\n"
    );
    Service::of(Parts { folder: Some(folder), config: Some(config), ..Parts::default() })
}

/// Queues messages and works them off.
fn work(service: &Service, messages: &[Value]) {
    let mut enqueue = service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    messages.iter().for_each(|message| writeln!(stdin, "{message}").unwrap());
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
    assert!(ended(&mut service.drain(&[])).is_some_and(|status| status.success()));
}

/// What a subcommand prints, and its exit code.
fn says(service: &Service, arguments: &[&str]) -> (String, i32) {
    let output = service.command(arguments).stdout(Stdio::piped()).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

/// One call of a customer.
fn of(number: usize, user: &str, environment: &str) -> Value {
    let mut call = call(number);
    call["environment"] = environment.into();
    call["metadata"] = json!({ "user_id": user });
    call["content"]["answer"] = format!("It is so. {CARD} is a number.").into();
    call
}

#[test]
fn answers_are_cut_after_the_verdict_by_environment() {
    let service = service();
    let mut citing = of(4, "u1", "production");
    citing["content"]["contexts"][0]["id"] = "chk_000001".into();
    citing["content"]["answer"] = "It is so. As was said [chk_777777].".into();
    let group = [of(1, "u1", "production"), of(2, "u1", "staging"), of(3, "u1", "testing"), citing];
    work(&service, &group);
    let cited = service.json(&["why", "kill-4"])[0]["evaluations"][0]["rules"].to_string();
    let archive = fs::read_to_string(service.path("out.jsonl")).unwrap();
    assert!(cited.contains("citations of what was not retrieved"), "{cited}");
    assert!(
        !cited.contains("chk_777777") && !archive.contains("chk_777777"),
        "nor what a rule quotes: {cited}"
    );
    let received = |id| service.json(&["why", id])[0]["received"].clone();
    let (production, staging, testing) = (received("kill-1"), received("kill-2"), received("kill-3"));
    assert_eq!(production["call"]["content"]["answer"], "It is so. ");
    assert_eq!(testing["call"]["content"]["answer"], "It is so. ", "what nobody names is cut");
    let whole = "It is so. <CARD> is a number.";
    assert_eq!((&staging["call"]["content"]["answer"], &staging["cut"]), (&whole.into(), &Value::Null));
    let hash = aftercheck::domain::id::sha256_hex(whole.as_bytes());
    assert_eq!(production["cut"], json!({"answer_chars": 29, "answer_sha256": hash}));
    // The verdict is about all of it: the card stands behind the cut.
    let rules = service.json(&["why", "kill-1"])[0]["evaluations"][0]["rules"].to_string();
    assert!(rules.contains("safety.payment_and_identity"), "{rules}");
    // The same call again is no conflict, though less of it is kept than came.
    work(&service, &[of(1, "u1", "production")]);
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert!(ledger.contains("evaluated") && !ledger.contains("conflict"), "{ledger}");
    let (told, _) = says(&service, &["--format", "table", "why", "kill-1"]);
    assert!(told.contains("10 of 29 characters"), "{told}");
}

#[test]
fn a_sealed_message_is_revealed_with_a_reason_and_found_nowhere() {
    let service = service();
    // Not through `enqueue`, which redacts before it queues: the queue as a producer of a broker leaves it.
    let message = of(1, "u1", "production").to_string();
    work(&service, &[]);
    service.database(async |database| {
        let mut tx = database.write().await.unwrap();
        sqlx::query("INSERT INTO queue (payload, enqueued_ms, available_ms) VALUES (?, 0, 0)")
            .bind(message.as_bytes())
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    });
    work(&service, &[]);
    assert_eq!(says(&service, &["scan"]).1, 0, "the scan finds nothing");
    assert_eq!(says(&service, &["reveal", "kill-1"]).1, 2, "no reason, no message");
    let ask = ["reveal", "kill-1", "--reason", "ticket 31", "--by", "ana"];
    let (told, code) = says(&service, &ask);
    assert_eq!((told.trim_end(), code), (message.as_str(), 0));
    let other = service.path("other");
    fs::write(&other, "0b".repeat(32)).unwrap();
    let with_other = [&ask[..], &["--key-file", other.to_str().unwrap()]].concat();
    assert_eq!(says(&service, &with_other), (String::new(), 2));
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert_eq!(ledger.matches("by ana: ticket 31").count(), 2, "in vain is asked, too: {ledger}");
    assert_eq!(says(&service, &["reveal", "kill-2", "--reason", "r", "--by", "ana"]).1, 1);
}

#[test]
fn a_customer_is_erased_and_does_not_come_back() {
    let service = service();
    let mut messages =
        vec![of(1, "ana@mail.example.com", "production"), of(2, "ana@mail.example.com", "staging")];
    messages.push(of(3, "ben", "production"));
    let mut broken = of(4, "ana@mail.example.com", "production");
    broken["tokens_in"] = "many".into();
    messages.push(broken);
    messages[1]["content"]["answer"] = "It is a xylograph. ".repeat(600).into();
    messages[3]["content"]["answer"] = "It is a xylograph.".into();
    work(&service, &messages);
    // In the very bytes, deleted rows of the queue included.
    let copies = || {
        let bytes =
            ["a.db", "a.db-wal"].map(|name| fs::read(service.path(name)).unwrap_or_default()).concat();
        memchr::memmem::find_iter(&bytes, "xylograph").count()
    };
    assert!(copies() > 600, "the search finds what is there");
    let of_ana = ["erase", "--user", "ana@mail.example.com"];
    let (would, code) = says(&service, &[&of_ana[..], &["--dry-run"]].concat());
    let would: Value = serde_json::from_str(&would).unwrap();
    let all = json!({"calls": 2, "evaluations": 2, "dead_letters": 1, "delivered": {"archive": 2}});
    assert_eq!((&would, code), (&all, 0));
    let erased: Value = serde_json::from_str(&says(&service, &of_ana).0).unwrap();
    assert_eq!(erased, all);
    assert_eq!(copies(), 0, "nor is it left in what is deleted");
    assert_eq!(says(&service, &of_ana).1, 1, "there is no more");
    work(&service, &messages[..2]);
    // The sink had been sent two of hers, and was told to delete them.
    let archive = fs::read_to_string(service.path("out.jsonl")).unwrap();
    let lines: Vec<Value> = archive.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["erased"] == true).count(), 2, "{archive}");
    assert_eq!(lines.len(), 3);
    assert!(archive.contains("kill-3") && !archive.contains("kill-1") && !archive.contains("kill-2"));
    let (story, _) = says(&service, &["--format", "table", "why", "kill-1"]);
    assert!(story.contains("yes, and erased"), "{story}");
    assert_eq!(service.json(&["why", "kill-2"])[0]["evaluations"], json!([]));
    assert_eq!(service.json(&["why", "kill-3"])[0]["evaluations"].as_array().unwrap().len(), 1);
    assert_eq!(says(&service, &["erase"]).1, 2, "of whom?");
    assert_eq!(says(&service, &["erase", "--tenant", "acme"]).1, 2, "a whole tenant needs --yes");
    assert_eq!(says(&service, &["erase", "--tenant", "acme", "--yes"]).1, 0);
    assert_eq!(service.json(&["report"])["verdicts"], json!({}));
}

#[test]
fn what_has_expired_goes_when_a_queue_is_drained() {
    let service = service();
    let mut broken = of(2, "u1", "production");
    broken["tokens_in"] = "many".into();
    work(&service, &[of(1, "u1", "production"), broken]);
    service.database(async |database| {
        let mut tx = database.write().await.unwrap();
        for statement in ["UPDATE sealed SET expires_ms = 1", "UPDATE dead_letters SET created_ms = 1"] {
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    });
    let count = |table: &str| service.tables.number(&format!("SELECT count(*) FROM {table}")).unwrap();
    assert_eq!((count("sealed"), count("dead_letters")), (1, 1));
    work(&service, &[]);
    assert_eq!(
        (count("sealed"), count("dead_letters")),
        (0, 1),
        "letters stay unless the policy says otherwise"
    );
    let days = [("AFTERCHECK__RETENTION__DEAD_LETTER_DAYS", "30")];
    assert!(ended(&mut service.drain(&days)).is_some_and(|status| status.success()));
    assert_eq!((count("dead_letters"), count("evaluations")), (0, 1));
}

#[test]
fn a_running_service_deletes_what_is_too_old() {
    let service = service();
    work(&service, &[of(1, "u1", "production"), of(2, "u1", "production")]);
    service.database(async |database| {
        let mut tx = database.write().await.unwrap();
        for statement in [
            "UPDATE review_items SET state = 'closed'",
            "UPDATE evaluations SET evaluated_ms = 1 WHERE request_id = 'kill-1'",
            "UPDATE sealed SET expires_ms = 1 WHERE request_id = 'kill-2'",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    });
    let count = |query| service.tables.number(query).unwrap();
    let running = service.start(&[("AFTERCHECK__RETENTION__DAYS", "30")]);
    let gone = || (count("SELECT count(*) FROM evaluations") == 1).then_some(());
    eventually(gone).expect("what is too old goes");
    let unsealed = || (count("SELECT count(*) FROM sealed") == 0).then_some(());
    eventually(unsealed).expect("and what has expired, and what belongs to a pruned call");
    // Counted at the end of the pass, and the rows go before.
    let counted = || running.metric("aftercheck_pruned_total", &["what=\"evaluations\""]);
    assert_eq!(eventually(counted), Some(1.0));
}

#[test]
fn a_running_service_scans_what_is_kept_and_says_where_something_is() {
    let service = service();
    work(&service, &[of(1, "u1", "production")]);
    let sql = |statement: &'static str| {
        service.database(async |database| {
            let mut tx = database.write().await.unwrap();
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        });
    };
    // As if redaction had failed.
    sql("UPDATE calls SET user_key = 'card 4111 1111 1111 1111'");
    let stopped = |mut running: Running| {
        running.signal("TERM");
        assert!(ended(&mut running.child).is_some_and(|status| status.success()));
        running.log.lock().unwrap().join("\n")
    };
    let found = |running: &Running, count: f64| {
        let shown = || (running.metric("aftercheck_scan_found", &[]) == Some(count)).then_some(());
        eventually(shown)
    };
    let running = service.start(&[]);
    found(&running, 1.0).expect("the first scan is due at the start");
    let log = stopped(running);
    assert!(log.contains("calls.user_key") && log.contains("\"card\""), "{log}");
    // Not "4111" alone: a time to the microsecond may have it.
    assert!(!log.contains("4111 1111"), "{log}");

    sql("UPDATE calls SET user_key = NULL");
    let running = service.start(&[]);
    found(&running, 1.0).expect("what the last scan found is shown until the next one");
    assert!(!stopped(running).contains("scan found"), "no other is due for a week");

    sql("UPDATE scan SET due_ms = due_ms - 604800000");
    let running = service.start(&[]);
    found(&running, 0.0).expect("the next scan");
}
