//! What we sign is verified by the library of the specification's authors (`standardwebhooks` of PyPI), on the bytes and headers
//! that arrived.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use aftercheck::sinks::{
    destination::{Destination, Told},
    webhook::{Webhook, WebhookConfig},
};
use serde_json::json;

use super::{
    SECRET, message, notice,
    receiver::{Receiver, Request, Says},
};

/// Another secret.
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// Python with the packages of tests/fixtures/requirements.txt; says so where it is not there.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.runtime/venv/bin/python"));
    let has_it = |python: &PathBuf| {
        let asked =
            Command::new(python).args(["-c", "import standardwebhooks"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = Some(python).filter(has_it);
    if found.is_none() {
        println!("skipped: standardwebhooks is not under .runtime/venv, which scripts/test makes");
    }
    found
}

/// Whether the library takes what came for signed under a secret.
fn verifies(python: &PathBuf, secret: &str, request: &Request, body: &[u8]) -> bool {
    let program = "import json, sys, standardwebhooks as s\n\
                   given = json.load(sys.stdin)\n\
                   try: s.Webhook(given['secret']).verify(given['body'], given['headers'])\n\
                   except s.WebhookVerificationError as error: sys.exit(str(error))";
    let mut command = Command::new(python);
    let mut child =
        command.args(["-c", program]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let body = std::str::from_utf8(body).unwrap();
    let given = json!({"secret": secret, "headers": request.headers, "body": body});
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    child.wait().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_library_verifies_what_arrives() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let secrets_file = folder.path().join("secrets");
    std::fs::write(&secrets_file, format!("{OTHER},{SECRET}")).unwrap();
    let receiver = Receiver::says(Says::status(204));
    let config = WebhookConfig {
        url: Some(receiver.url("/hook?a=b")),
        secrets_file: Some(secrets_file),
        allow_private: true,
        allow_http: true,
        ..WebhookConfig::default()
    };
    let webhook = Webhook::new(&config).unwrap();
    let sent = message(&[super::Notice { summary: "ä „ü“ \u{1f600}".into(), ..notice(1) }]);
    assert_eq!(webhook.tell(&sent).await, Told::delivered());
    assert_eq!(webhook.tell(&sent).await, Told::delivered());
    let requests = receiver.requests();
    let request = &requests[0];
    assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(request.header("webhook-id"), sent.message_id.to_string());
    assert_eq!(requests[1].header("webhook-id"), request.header("webhook-id"));
    assert_eq!(requests[1].body, request.body, "a repeat says the same");
    for secret in [SECRET, OTHER] {
        assert!(verifies(&python, secret, request, &request.body), "while secrets change both verify");
    }
    let third = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx";
    assert!(!verifies(&python, third, request, &request.body));
    let mut other = request.body.clone();
    other[10] ^= 1;
    assert!(!verifies(&python, SECRET, request, &other));
}
