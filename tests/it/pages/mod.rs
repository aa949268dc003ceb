//! The pages over HTTP: what they show of hostile calls, what is done by plain forms, and who may.

mod journey;
mod who;

use super::service::{Service, call};

const FORM: &str = "content-type: application/x-www-form-urlencoded";

#[test]
fn an_empty_queue_says_so_and_the_policy_forbids_scripts_of_others() {
    let service = Service::new();
    let running = service.start(&[]);
    let (status, body) = running.request("GET", "/review", &[], b"");
    assert_eq!(status, 200);
    assert!(body.contains("Nothing waits for you."), "{body}");
    for bad in ["style=", "<script>", "onclick", "http://", "https://"] {
        assert!(!body.contains(bad), "{bad} in {body}");
    }
    for file in ["pages.css", "pages.js", "htmx.js"] {
        assert_eq!(running.request("GET", &format!("/static/{file}?v=1"), &[], b"").0, 200, "{file}");
    }
    assert_eq!(running.request("GET", "/static/nothing", &[], b"").0, 404);
}

#[test]
fn what_is_not_there_is_not_found_and_forms_of_other_sites_are_refused() {
    let service = Service::new();
    let running = service.start(&[]);
    let item = "/review/00000000-0000-0000-0000-000000000000";
    assert_eq!(running.request("GET", item, &[], b"").0, 404);
    assert_eq!(running.request("POST", &format!("{item}/label"), &[FORM], b"said=pass").0, 404);
    assert_eq!(running.request("POST", "/review/undo", &[FORM], b"").0, 404);
    let foreign = running.request("POST", "/review/undo", &[FORM, "sec-fetch-site: cross-site"], b"");
    assert_eq!(foreign.0, 403);
}

#[test]
fn a_hostile_call_is_shown_escaped_and_labelled_without_scripts() {
    let mut service = Service::of(super::service::Parts::default());
    let mut hostile = call(1);
    hostile["content"]["answer"] = "<script>alert(1)</script>\u{202e} told".into();
    hostile["feature"] = "<img src=x onerror=alert(2)>".into();
    hostile["feedback"] = serde_json::json!({"thumbs": "down"});
    let body = hostile.to_string();
    service.accepted = 1;
    let running = service.start(&[]);
    let kind = "content-type: application/json";
    assert_eq!(running.request("POST", "/v1/calls", &[kind], body.as_bytes()).0, 202);
    let page = super::service::eventually(|| {
        let (_, page) = running.request("GET", "/review", &[], b"");
        page.contains("name=\"token\"").then_some(page)
    })
    .expect("the call comes to review");
    assert!(page.len() < 150_000, "{}", page.len());
    assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    assert!(page.contains("⟨U+202E⟩"), "{page}");
    let action = page.split("<form method=\"post\" action=\"").find_map(|rest| {
        let path = rest.split('"').next()?;
        path.ends_with("/label").then(|| path.to_owned())
    });
    let action = action.expect("a form for the label");
    let wrong = b"said=nonsense&note=kept+%3Cb%3E&adjudicates=false";
    let (status, again) = running.request("POST", &action, &[FORM], wrong);
    assert_eq!(status, 422);
    assert!(again.contains("kept") && !again.contains("<b>"), "{again}");
    let said = b"said=fail&note=no&adjudicates=false";
    assert_eq!(running.request("POST", &action, &[FORM], said).0, 303);
    let (status, stale) =
        running.request("POST", &action, &[FORM], b"said=pass&note=typed&adjudicates=false");
    assert_eq!(status, 409);
    assert!(stale.contains("not saved") && stale.contains("typed"), "{stale}");
    assert_eq!(running.request("POST", "/review/undo", &[FORM], b"").0, 303);
}
