//! What can be done with the pages alone, by plain forms: a call is found, read, asked about, labelled, promoted, changed, exported,
//! taken out; what is dead is read, tried again and dropped.

use super::{
    super::{
        api::Scene,
        doors::{answer, bearer, status},
        service::{call, eventually},
    },
    FORM,
};

/// What the admin's browser gets.
fn get(scene: &Scene, path: &str) -> String {
    let (status, page) = scene.running.request("GET", path, &[&bearer(&scene.admin)], b"");
    assert_eq!(status, 200, "{path}: {page}");
    assert!(page.len() < 150_000, "{path} has {} bytes", page.len());
    page
}

/// Where the answer to a form leads.
fn post(scene: &Scene, path: &str, form: &str) -> String {
    let answer =
        answer(&scene.running, "POST", path, &["host: localhost", FORM, &bearer(&scene.admin)], form);
    assert_eq!(status(&answer), 303, "{path}: {answer}");
    answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
}

/// What a page says of a refused form.
fn refused(scene: &Scene, path: &str, form: &str) -> (u16, String) {
    scene.running.request("POST", path, &[FORM, &bearer(&scene.admin)], form.as_bytes())
}

/// What stands between two texts of a page.
fn between<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
    let rest = page.split_once(from).unwrap_or_else(|| panic!("no {from} in {page}")).1;
    rest.split_once(to).unwrap().0
}

#[test]
fn the_numbers_of_the_overview_lead_to_their_calls() {
    let scene = Scene::new("");
    let review = scene.review_id();
    let overview = get(&scene, "/");
    let list = get(&scene, "/calls?feature=f&verdict=review");
    assert!(
        overview.contains("/calls?feature=f&#38;verdict=review")
            || overview.contains("/calls?feature=f&amp;verdict=review"),
        "{overview}"
    );
    assert!(list.contains("href=\"/calls/acme/kill%2D1\"") && list.contains("nli off"), "{list}");
    for none in ["verdict=fail", "feature=g", "rule=never", &format!("before=1_{review}")] {
        let page = get(&scene, &format!("/calls?{none}"));
        assert!(page.contains("No such call."), "{none}: {page}");
    }
}

#[test]
fn a_call_goes_from_the_overview_into_the_golden_set_and_out_again() {
    let scene = Scene::new("");
    let review = scene.review_id();
    let overview = get(&scene, "/");
    assert!(overview.contains("Verdicts of 14 days: 0 failed, 1 for review"), "{overview}");
    assert!(overview.contains("<b>1</b>") && overview.contains("action=\"/calls\""), "{overview}");
    let found = answer(
        &scene.running,
        "GET",
        "/calls?request_id=kill-1",
        &["host: localhost", &bearer(&scene.admin)],
        "",
    );
    assert!(found.contains("location: /calls/acme/kill%2D1"), "{found}");
    assert!(get(&scene, "/calls?request_id=kill-999").contains("No call with this request id"));

    let page = get(&scene, "/calls/acme/kill-1");
    assert!(page.contains("The answer is yes.") && page.contains("open · nli off"), "{page}");
    assert!(page.contains("Once people have labelled it") && !page.contains("id=\"promote\""), "{page}");
    let evaluations = scene.get("/v1/evaluations/acme/kill-1");
    let evaluation = evaluations["evaluations"][0]["evaluation_id"].as_str().unwrap().to_owned();
    let promote = format!("evaluation={evaluation}&dataset=support&expected=No.&policy=");
    let (status, early) = refused(&scene, "/calls/acme/kill-1/promote", &promote);
    assert_eq!(status, 409);
    assert!(early.contains("Not promoted.") && early.contains(">No.</textarea>"), "{early}");

    a_label_is_given_taken_back_and_given_again(&scene, &review);
    let page = get(&scene, "/calls/acme/kill-1");
    assert!(
        page.contains("wrong") && page.contains("closed · nli off") && page.contains(&evaluation),
        "{page}"
    );
    let other = promote.replace(&evaluation, "00000000-0000-4000-8000-000000000000");
    assert_eq!(
        refused(&scene, "/calls/acme/kill-1/promote", &other).0,
        404,
        "not an evaluation of this call"
    );
    let row = post(&scene, "/calls/acme/kill-1/promote", &promote);
    assert!(get(&scene, &row).contains(">No.</textarea>"));

    assert_eq!(post(&scene, &format!("{row}/edit"), "expected=Never.&policy="), row);
    let edited = get(&scene, &row);
    assert!(edited.contains(">Never.</textarea>") && edited.contains("edited"), "{edited}");
    an_edit_over_that_of_somebody_else_is_told(&scene, &row, &edited);
    let long = format!("expected={}&policy=", "x".repeat(20_001));
    assert_eq!(refused(&scene, &format!("{row}/edit"), &long).0, 422);
    // What fills the page as markup is read on it, and edited elsewhere.
    let heavy = format!("expected={}&policy={}", "%22".repeat(20_000), "%3C".repeat(20_000));
    assert_eq!(post(&scene, &format!("{row}/edit"), &heavy), row);
    let page = get(&scene, &row);
    assert!(page.contains("aftercheck gold edit") && !page.contains("</textarea>"), "{page}");
    assert_eq!(post(&scene, &format!("{row}/edit"), "expected=Never.&policy="), row);
    let list = get(&scene, "/golden?dataset=support");
    assert!(list.contains("/golden/export?dataset=support") && list.contains(&row), "{list}");
    let file = get(&scene, "/golden/export?dataset=support");
    assert!(file.contains("\"expected\":\"Never.\"") && file.lines().count() == 1, "{file}");
    assert_eq!(post(&scene, &format!("{row}/remove"), ""), "/golden?said=removed");
    assert!(!get(&scene, "/golden").contains(&row));
}

/// What is taken back comes back with what was typed.
fn a_label_is_given_taken_back_and_given_again(scene: &Scene, review: &str) {
    let label = format!("/review/{review}/label");
    let said = format!("/review?said=fail&of={review}");
    assert_eq!(post(scene, &label, "said=fail&note=wrong&adjudicates=false"), said);
    let undo = format!("name=\"review_id\" value=\"{review}\"");
    assert!(get(scene, &said).contains(&undo), "the label that was just given is what undo takes back");
    for _ in 0..2 {
        let undone = post(scene, "/review/undo", &format!("review_id={review}"));
        assert_eq!(undone, format!("/review/{review}"), "sent twice, it takes back no other");
        assert!(get(scene, &undone).contains(">wrong</textarea>"), "what was written is there again");
    }
    assert_eq!(post(scene, &label, "said=fail&note=wrong&adjudicates=false"), said);
}

/// Somebody else has saved since this form was read: what both wrote is there, and nothing is lost.
fn an_edit_over_that_of_somebody_else_is_told(scene: &Scene, row: &str, edited: &str) {
    let digest = between(edited, "name=\"digest\" value=\"", "\"").to_owned();
    assert_eq!(post(scene, &format!("{row}/edit"), "expected=Never+ever.&policy="), row);
    let late = format!("expected=Perhaps.&policy=&digest={digest}");
    let (status, stale) = refused(scene, &format!("{row}/edit"), &late);
    assert_eq!(status, 409);
    assert!(
        stale.contains("Somebody else has changed it") && stale.contains(">Perhaps.</textarea>"),
        "{stale}"
    );
    assert!(stale.contains("Never ever."), "{stale}");
    let digest = between(&stale, "name=\"digest\" value=\"", "\"").to_owned();
    let anew = format!("expected=Perhaps.&policy=&digest={digest}");
    assert_eq!(post(scene, &format!("{row}/edit"), &anew), row);
}

#[test]
fn a_person_is_asked_about_a_call_that_nobody_would_have_seen() {
    let scene = Scene::new("");
    let mut failing = call(2);
    failing["content"]["answer"] = "Pay to DE89 3704 0044 0532 0130 00.".into();
    scene.enqueue(&failing.to_string());
    let path = "/calls/acme/kill-2";
    let asked = |page: &str| page.contains("action=\"/calls/acme/kill%2D2/ask\"");
    let page = eventually(|| {
        let (status, page) = scene.running.request("GET", path, &[&bearer(&scene.admin)], b"");
        (status == 200).then_some(page)
    });
    assert!(asked(&page.expect("the call is there")));
    assert_eq!(post(&scene, &format!("{path}/ask"), ""), "/calls/acme/kill%2D2");
    let page = get(&scene, path);
    assert!(!asked(&page) && page.contains("open · requested"), "{page}");
    assert_eq!(post(&scene, &format!("{path}/ask"), ""), "/calls/acme/kill%2D2", "a repeat changes nothing");
    assert_eq!(get(&scene, path).matches("open · requested").count(), 1);
}

#[test]
fn what_is_dead_is_read_tried_again_and_dropped() {
    let scene = Scene::new("");
    let dead = scene.dead_id();
    let list = get(&scene, "/dead");
    assert!(list.contains("/tokens_in") && list.contains(&format!("/dead/{dead}/requeue")), "{list}");
    let letter = get(&scene, &format!("/dead/{dead}"));
    assert!(letter.contains("&#34;many&#34;"), "{letter}");
    assert_eq!(post(&scene, &format!("/dead/{dead}/requeue"), ""), "/dead?said=requeued");
    // It is as wrong as before: it comes back, under the same id.
    eventually(|| {
        (scene.running.request("GET", &format!("/dead/{dead}"), &[&bearer(&scene.admin)], b"").0 == 200)
            .then_some(())
    })
    .expect("the letter is buried again");
    assert_eq!(post(&scene, &format!("/dead/{dead}/drop"), ""), "/dead?said=dropped");
    assert!(get(&scene, "/dead?said=dropped").contains("Nothing is dead."));
    let (status, page) = refused(&scene, &format!("/dead/{dead}/drop"), "");
    assert!(status == 404 && page.contains("There is no such dead letter for you."), "{page}");
    let ledger = get(&scene, "/calls/acme/kill-10");
    assert!(ledger.contains("dropped") && ledger.contains("by shop"), "who did it stays: {ledger}");
}

#[test]
fn an_address_or_a_form_that_is_none_of_ours_is_answered_with_a_page() {
    let scene = Scene::new("");
    let key = bearer(&scene.admin);
    for (method, path, expected) in [
        ("GET", "/nothing/here", 404),
        ("GET", "/review/not-an-id", 400),
        ("GET", "/golden?after=x", 400),
        ("GET", "/calls/acme/a%00b", 400),
        ("GET", "/calls?request_id=%00", 400),
        ("DELETE", "/golden", 405),
        ("POST", "/dead/00000000-0000-4000-8000-000000000000/drop", 404),
    ] {
        let (status, page) = scene.running.request(method, path, &[&key, FORM], b"");
        assert_eq!(status, expected, "{method} {path}");
        assert!(page.contains("<h1>That did not work</h1>"), "{method} {path}: {page}");
        assert!(page.contains("<span>shop</span>"), "it says who asks: {page}");
    }
    let large = vec![b'x'; 200_000];
    let label = format!("/review/{}/label", scene.review_id());
    let (status, page) = scene.running.request("POST", &label, &[&key, FORM], &large);
    assert!(status == 413 && page.contains("too much text"), "{status} {page}");
}
