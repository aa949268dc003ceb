//! Rows 34, 39: what must stop a start does so with a clear message, and what must not does not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use aftercheck::domain::id::sha256_hex;

use super::{
    Chance,
    crashes::{finish, spawn},
    ledger::Row,
};
use crate::{
    models::tiny_encoder,
    service::{Parts, Service},
};

/// Exit code and last words of a run that should not start.
fn refusal(service: &Service, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = service.command(&["run", "--drain"]);
    let output = command.envs(variables.iter().copied()).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A copy of the tiny model, changed.
fn model(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    copied(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".runtime/tiny-models/three_labels"), change)
}

/// A copy of a model folder, changed.
fn copied(from: &Path, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    change(folder.path());
    folder
}

/// Writes the sums anew, as somebody does who changed a file on purpose.
fn sum(folder: &Path) {
    let mut sums = String::new();
    for name in ["config.json", "model.onnx", "tokenizer.json"] {
        let digest = sha256_hex(&fs::read(folder.join(name)).unwrap());
        sums.push_str(&format!("{digest}  {name}\n"));
    }
    fs::write(folder.join("SHA256SUMS"), sums).unwrap();
}

/// Cuts a file to half of its length.
fn halve(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

/// Changes `config.json`.
fn edit_config(folder: &Path, from: &str, to: &str) {
    let file = folder.join("config.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// A library that says it is ONNX Runtime 1.2 and knows none of our version; none without a C compiler.
fn old_runtime(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("old.c"), folder.join("libold.so"));
    let text = "struct base { const void *(*api)(unsigned); const char *(*version)(void); };\n\
        static const void *api(unsigned version) { return 0; }\n\
        static const char *version(void) { return \"1.2.0\"; }\n\
        static const struct base base = { api, version };\n\
        const struct base *OrtGetApiBase(void) { return &base; }\n";
    fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn row_34_a_model_that_cannot_be_used_stops_the_start() {
    let mut row = Row::new(
        "34",
        "model missing, truncated, changed, swapped; runtime missing, too old",
        Parts { model: true, ..Parts::default() },
    );
    if !row.service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    row.send(20);
    let swapped = |folder: &Path| {
        edit_config(folder, "\"0\": \"entailment\"", "\"0\": \"contradiction\"");
        edit_config(folder, "\"2\": \"contradiction\"", "\"2\": \"entailment\"");
        sum(folder);
    };
    let models = [
        ("missing", model(|folder| fs::remove_file(folder.join("model.onnx")).unwrap()), "model.onnx"),
        ("truncated", model(|folder| halve(&folder.join("model.onnx"))), "does not match SHA256SUMS"),
        ("other", model(|folder| edit_config(folder, "{", "{ ")), "config.json does not match SHA256SUMS"),
        ("cut, with sums", model(|folder| (halve(&folder.join("model.onnx")), sum(folder)).1), "model.onnx"),
        ("swapped", model(swapped), "self-test"),
    ];
    for (what, folder, words) in &models {
        let refused =
            refusal(&row.service, &[("AFTERCHECK__INFERENCE__MODEL", folder.path().to_str().unwrap())]);
        expect_refusal(&mut row, what, refused, words);
    }
    if let Some(encoder) = tiny_encoder() {
        let encoders = [
            ("no encoder", tempfile::tempdir().unwrap(), "[inference] embedding"),
            (
                "changed encoder",
                copied(&encoder, |folder| edit_config(folder, "{", "{ ")),
                "does not match SHA256SUMS",
            ),
            ("a classifier as encoder", model(|_| ()), "sentence encoder"),
        ];
        for (what, folder, words) in &encoders {
            let refused = refusal(
                &row.service,
                &[("AFTERCHECK__INFERENCE__EMBEDDING", folder.path().to_str().unwrap())],
            );
            expect_refusal(&mut row, what, refused, words);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let mut libraries =
        vec![("no runtime", folder.path().join("none.so"), "none.so"), ("text", text, "text.so")];
    libraries.extend(old_runtime(folder.path()).map(|library| ("old runtime", library, "1.2.0")));
    for (what, library, words) in &libraries {
        let refused = refusal(&row.service, &[("AFTERCHECK__INFERENCE__LIBRARY", library.to_str().unwrap())]);
        expect_refusal(&mut row, what, refused, words);
    }
    assert_eq!(row.ended(), 0, "nothing was taken from the queue");
    finish(row).must_hold();
}

/// A start that must be refused, with these words.
fn expect_refusal(row: &mut Row, what: &str, (code, said): (Option<i32>, String), words: &str) {
    let clear =
        code.is_some_and(|code| code > 0 && code < 70) && said.contains(words) && !said.contains("panicked");
    row.expect(clear, &format!("{what}: exit code {code:?}, {said:?} does not say {words:?}"));
}

#[test]
fn row_39_the_first_start_is_killed_and_repeated_by_many() {
    let kills = 20;
    let mut row = Row::new(
        "39",
        format!("{kills} kill -9 while tables are made, then 4 starts at once"),
        Parts::default(),
    );
    let mut chance = Chance(39);
    for _ in 0..kills {
        let mut worker = spawn(&row, &[]);
        sleep(chance.millis(5, 120));
        worker.kill().unwrap();
        worker.wait().unwrap();
        // Where it came too late the next one finds nothing to make: begin anew.
        if row
            .service
            .tables
            .number("SELECT count(*) FROM _sqlx_migrations WHERE version = 4")
            .is_ok_and(|n| n == 1)
        {
            for name in ["a.db", "a.db-wal", "a.db-shm"] {
                drop(fs::remove_file(row.service.path(name)));
            }
        }
    }
    row.fault_over();
    // Many at once: each must find the tables whole, whoever made them.
    let mut starts: Vec<_> =
        (0..4).map(|_| row.service.command(&["migrate"]).stderr(Stdio::piped()).spawn().unwrap()).collect();
    for start in &mut starts {
        let status = crate::service::ended(start);
        let mut said = String::new();
        std::io::Read::read_to_string(start.stderr.as_mut().unwrap(), &mut said).unwrap();
        row.expect(status.is_some_and(|status| status.success()), &format!("a start failed: {said}"));
    }
    row.send(40);
    let workers = (0..2).map(|_| row.worker(&[])).collect();
    row.await_all();
    row.stop(workers);
    row.close().must_hold();
}

/// Row 39: tables newer than the program, and tables half made, under calls.
pub fn tables_are_of_another_version(name: &'static str, parts: Parts) -> super::ledger::Line {
    let mut row = Row::new("39", format!("tables half made, tables of a newer version, {name}"), parts);
    row.send(40);
    let worker = row.worker(&[("AFTERCHECK_SLOW_MS", "100")]);
    // The producer is of the old version too, and goes on.
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    let tables = row.service.tables.clone();
    // A newer program has added a column and a table while this one runs.
    let newer = "ALTER TABLE evaluations ADD COLUMN later text; CREATE TABLE later (id bigint);
        INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    tables.execute(newer).unwrap();
    row.await_more(20);
    flow.stop();
    row.await_all();
    let refused = refusal(&row.service, &[]);
    expect_refusal(&mut row, "newer", refused, "9999");
    row.stop(vec![worker]);
    // One that did not come to its end.
    let half = "DELETE FROM _sqlx_migrations WHERE version = 9999;
        UPDATE _sqlx_migrations SET success = (version <> 1) WHERE version = 1";
    tables.execute(half).unwrap();
    let refused = refusal(&row.service, &[]);
    expect_refusal(&mut row, "half", refused, "partially applied");
    tables.execute("UPDATE _sqlx_migrations SET success = (version = 1) WHERE version = 1").unwrap();
    finish(row)
}

#[test]
fn row_39_sqlite_tables_are_of_another_version() {
    tables_are_of_another_version("sqlite", Parts::default()).must_hold();
}
