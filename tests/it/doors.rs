//! Who comes in, and who does not: keys, sessions, roles, tenants, other sites, proxies, guessing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use super::service::{Parts, Running, Service, call};

pub const PASSWORD: &str = "correct horse battery staple";
pub const JSON: &str = "content-type: application/json";
const FORM: &str = "content-type: application/x-www-form-urlencoded";

/// A service in which everybody signs in, with more in `[http]`.
pub fn guarded(more: &str) -> Service {
    let config = format!("[source]\nlease_secs = 1\n[http]\nauth = \"on\"\n{more}");
    let service = Service::of(Parts { config: Some(config), ..Parts::default() });
    assert!(service.command(&["migrate"]).status().unwrap().success());
    service
}

/// Adds somebody with [`PASSWORD`].
pub fn add(service: &Service, name: &str, role: &str) {
    let mut command = service.command(&["people", "add", name, "--role", role]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// Makes a key.
pub fn key(service: &Service, role: &str, more: &[&str]) -> String {
    let arguments = [&["keys", "add", "shop", "--role", role], more].concat();
    let output = service.command(&arguments).stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The header of a key.
pub fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}")
}

/// The whole answer to a request, with its headers.
pub fn answer(running: &Running, method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let mut stream = TcpStream::connect(&running.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Tries to sign in.
pub fn sign_in(running: &Running, name: &str, password: &str) -> String {
    let body = format!("name={name}&password={}&next=/v1/nothing", password.replace(' ', "+"));
    answer(running, "POST", "/sign-in", &["host: localhost", FORM], &body)
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The cookie that an answer sets.
pub fn cookie(answer: &str) -> String {
    let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
    format!("cookie: {}", set.split(';').next().unwrap())
}

#[test]
fn each_role_may_do_what_it_says() {
    let service = guarded("");
    let running = service.start(&[]);
    let body = call(1).to_string();
    let post = |header: &str| running.request("POST", "/v1/calls", &[JSON, header], body.as_bytes()).0;
    assert_eq!(post("x-none: 1"), 401);
    assert_eq!(post(&bearer("ack_wrong")), 401);
    for (role, expected) in [("ingest", 202), ("read", 403), ("review", 403), ("admin", 202)] {
        assert_eq!(post(&bearer(&key(&service, role, &[]))), expected, "{role}");
    }
}

#[test]
fn a_key_hands_in_calls_of_its_tenants_until_it_is_revoked() {
    let service = guarded("");
    let running = service.start(&[]);
    let body = call(1).to_string();
    let post = |key: &str| running.request("POST", "/v1/calls", &[JSON, &bearer(key)], body.as_bytes());
    let other = key(&service, "ingest", &["--tenant", "globex"]);
    let (status, refusal) = post(&other);
    assert!(status == 403 && refusal.contains("line 1: its tenant is not granted"), "{status} {refusal}");
    let own = key(&service, "ingest", &["--tenant", "globex", "--tenant", "acme"]);
    assert_eq!(post(&own).0, 202);
    let prefix = own.rsplit_once('_').map(|_| &own[.."ack_".len() + 8]).unwrap();
    assert!(service.command(&["keys", "revoke", prefix]).status().unwrap().success());
    assert_eq!(post(&own).0, 401);
    assert!(!service.command(&["keys", "revoke", prefix]).status().unwrap().success(), "it is revoked");
}

#[test]
fn somebody_signs_in_and_out() {
    let service = guarded("");
    add(&service, "ana", "admin");
    let running = service.start(&[]);
    let local = "host: localhost";
    let asked = answer(&running, "GET", "/review?a=b", &[local], "");
    assert!(status(&asked) == 303 && asked.contains("location: /sign-in?next=%2Freview%3Fa%3Db"), "{asked}");
    assert_eq!(status(&answer(&running, "GET", "/v1/nothing", &[local], "")), 401);
    let page = answer(&running, "GET", "/sign-in?next=/review", &[local], "");
    assert!(status(&page) == 200 && page.contains("value=\"/review\""), "{page}");
    assert!(page.contains("default-src 'none'") && page.contains("nosniff") && page.contains("no-store"));
    for (name, password) in [("ana", "wrong"), ("nobody", PASSWORD), ("ana", "")] {
        let refused = sign_in(&running, name, password);
        assert!(status(&refused) == 401 && refused.contains("name or password is wrong"), "{refused}");
    }
    let entered = sign_in(&running, "ana", PASSWORD);
    assert!(status(&entered) == 303 && entered.contains("location: /v1/nothing"), "{entered}");
    let cookie = cookie(&entered);
    assert_eq!(status(&answer(&running, "GET", "/v1/nothing", &[local, &cookie], "")), 404, "they are in");
    let foreign = [local, &cookie, "origin: https://evil.example"];
    assert_eq!(status(&answer(&running, "POST", "/sign-out", &foreign, "")), 403);
    assert_eq!(status(&answer(&running, "POST", "/sign-out", &[local, &cookie], "")), 303);
    assert_eq!(status(&answer(&running, "GET", "/v1/nothing", &[local, &cookie], "")), 401);
    let log =
        service.command(&["--format", "json", "people", "log"]).stdout(Stdio::piped()).output().unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    assert_eq!(log.matches("sign_in_refused").count(), 3, "{log}");
    assert!(log.contains("signed_in") && log.contains("person_added") && !log.contains(PASSWORD), "{log}");
}

#[test]
fn guessing_is_stopped_and_a_restart_forgives_nothing() {
    let service = guarded("");
    add(&service, "ana", "read");
    let running = service.start(&[]);
    for _ in 0..10 {
        assert_eq!(status(&sign_in(&running, "ana", "a wrong guess")), 401);
    }
    drop(running);
    let running = service.start(&[]);
    let refused = sign_in(&running, "ana", PASSWORD);
    assert!(status(&refused) == 429 && refused.contains("retry-after: "), "{refused}");
    // Others are not locked out, until the address has tried too often.
    assert_eq!(status(&sign_in(&running, "eve", PASSWORD)), 401);
}

#[test]
fn without_sign_in_only_loopback_is_answered_and_no_other_site() {
    let service = Service::of(Parts::default());
    let running = service.start(&[]);
    let body = call(1).to_string();
    let post = |headers: &[&str]| {
        status(&answer(&running, "POST", "/v1/calls", &[&[JSON], headers].concat(), &body))
    };
    assert_eq!(post(&["host: localhost"]), 202);
    assert_eq!(post(&["host: rebound.example"]), 421);
    assert_eq!(post(&["host: localhost", "origin: https://evil.example"]), 403);
    let foreign = ["host: localhost", "sec-fetch-site: cross-site"];
    assert_eq!(status(&answer(&running, "POST", "/sign-out", &foreign, "")), 403);
    assert_eq!(status(&answer(&running, "GET", "/healthz", &["host: rebound.example"], "")), 200);
}

#[test]
fn a_public_address_without_sign_in_is_refused() {
    let service = Service::of(Parts::default());
    let mut command = service.command(&["run"]);
    let output =
        command.env("AFTERCHECK__HTTP__LISTEN", "0.0.0.0:0").stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && told.contains("[http] auth = \"on\""), "{told}");
}

#[test]
fn a_name_is_believed_from_the_proxy_alone() {
    let asked = |trusted: &str, name: &str| {
        let service = guarded(&format!("proxy = {{ header = \"x-user\", trusted = [\"{trusted}\"] }}\n"));
        add(&service, "ana", "read");
        let running = service.start(&[]);
        let header = format!("x-user: {name}");
        status(&answer(&running, "GET", "/v1/nothing", &["host: a.example", &header], ""))
    };
    assert_eq!(asked("127.0.0.1/32", "ana"), 404, "she is in");
    assert_eq!(asked("127.0.0.1/32", "eve"), 401, "nobody has this name");
    assert_eq!(asked("192.0.2.1/32", "ana"), 401, "not the proxy");
}

#[test]
fn a_reviewer_sees_nothing_of_other_tenants_and_others_see_no_review() {
    let service = guarded("");
    let mut call = call(1);
    call["feedback"] = serde_json::json!({"thumbs": "down"});
    let running = service.start(&[]);
    let producer = bearer(&key(&service, "ingest", &[]));
    assert_eq!(running.request("POST", "/v1/calls", &[JSON, &producer], call.to_string().as_bytes()).0, 202);
    let item = || {
        let items = service.command(&["--format", "json", "review", "list"]).stdout(Stdio::piped()).output();
        let items = String::from_utf8(items.unwrap().stdout).unwrap();
        let first: serde_json::Value = serde_json::from_str(items.lines().next()?).ok()?;
        Some(format!("/review/{}", first["review_id"].as_str()?))
    };
    let item = super::service::eventually(item).expect("the call comes to review");
    let (label, skip) = (format!("{item}/label"), format!("{item}/skip"));
    let of = |tenant| bearer(&key(&service, "review", &["--tenant", tenant]));
    let (own, other) = (of("acme"), of("globex"));
    let get = |path: &str, who: &str| running.request("GET", path, &[who], b"");
    assert_eq!((get(&item, &own).0, get(&item, &other).0), (200, 404));
    let (status, page) = get("/review", &other);
    assert!(status == 200 && page.contains("Nothing waits for you") && !page.contains("kill-1"), "{page}");
    for path in [&label, &skip] {
        assert_eq!(running.request("POST", path, &[FORM, &other], b"said=fail").0, 404, "{path}");
    }
    let reader = bearer(&key(&service, "read", &[]));
    for path in ["/review", &item] {
        assert_eq!((get(path, &reader).0, get(path, &producer).0), (403, 403), "{path}");
    }
    assert_eq!(running.request("POST", &label, &[FORM, &reader], b"said=fail").0, 403);
    assert_eq!(running.request("POST", &label, &[FORM, &own], b"said=fail").0, 303);
}
