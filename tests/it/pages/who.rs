//! Who may open which page and send which form, and of whose calls.

use super::{
    super::{
        api::Scene,
        doors::{self, answer, bearer, status},
    },
    FORM,
};

/// Every page and form, with the least role that may.
const PAGES: [(&str, &str, &str); 19] = [
    ("GET", "/", "read"),
    ("GET", "/calls", "read"),
    ("GET", "/calls?request_id=x", "read"),
    ("GET", "/calls/acme/kill-1", "read"),
    ("GET", "/dead", "read"),
    ("GET", "/dead/DEAD", "read"),
    ("GET", "/golden", "read"),
    ("GET", "/golden/GOLDEN", "read"),
    ("GET", "/golden/export?dataset=golden", "read"),
    ("GET", "/review", "review"),
    ("GET", "/review/REVIEW", "review"),
    ("POST", "/review/REVIEW/label", "review"),
    ("POST", "/review/REVIEW/skip", "review"),
    ("POST", "/review/undo", "review"),
    ("POST", "/calls/acme/kill-1/promote", "review"),
    ("POST", "/calls/acme/kill-1/ask", "review"),
    ("POST", "/golden/GOLDEN/edit", "review"),
    ("POST", "/dead/DEAD/drop", "admin"),
    ("POST", "/golden/GOLDEN/remove", "admin"),
];
/// Roles, the least first, and last one that sees nothing.
const ROLES: [&str; 4] = ["read", "review", "admin", "ingest"];

#[test]
fn each_role_opens_what_it_may_and_nobody_anything() {
    let scene = Scene::new("");
    let place = placed(&scene);
    let keys = ROLES.map(|role| doors::key(&scene.service, role, &[]));
    let label = "said=nonsense&evaluation=00000000-0000-4000-8000-000000000000";
    for (method, path, least) in PAGES {
        let path = place(path);
        let nobody = answer(&scene.running, method, &path, &["host: localhost", FORM], "");
        assert_eq!(status(&nobody), 303, "{method} {path}: nobody is sent to the page for signing in");
        let least = ROLES.iter().position(|role| *role == least).unwrap();
        // The admin last: the forms of the last rows take away what the others need.
        for (place, (role, key)) in ROLES
            .into_iter()
            .zip(&keys)
            .enumerate()
            .rev()
            .filter(|(place, _)| *place != 2)
            .chain([(2, ("admin", &keys[2]))])
        {
            let answer =
                answer(&scene.running, method, &path, &["host: localhost", FORM, &bearer(key)], label);
            let may = place >= least && role != "ingest";
            assert_eq!(status(&answer) == 403, !may, "{role} {method} {path}: {answer}");
            if !may {
                assert!(answer.contains("This page needs the role"), "{answer}");
            }
        }
    }
}

#[test]
fn nothing_of_another_tenant_is_there() {
    let scene = Scene::new("");
    let place = placed(&scene);
    let key = doors::key(&scene.service, "admin", &["--tenant", "globex"]);
    for (method, path, _) in PAGES {
        let path = place(path);
        let form = "said=pass&evaluation=00000000-0000-4000-8000-000000000000";
        let answer = answer(&scene.running, method, &path, &["host: localhost", FORM, &bearer(&key)], form);
        match path.as_str() {
            "/" | "/calls" | "/dead" | "/golden" | "/review" | "/calls?request_id=x" => {
                assert_eq!(status(&answer), 200, "{path}");
            }
            _ => assert_eq!(status(&answer), 404, "{method} {path}: {answer}"),
        }
        assert!(!answer.contains("acme") || path.contains("acme"), "{method} {path}: {answer}");
        assert!(!answer.contains("The answer is yes."), "{method} {path}");
    }
    let overview = answer_of(&scene, "/", &key);
    assert!(!overview.contains("<h2>Sinks</h2>") && !overview.contains("Wait for a judge"), "{overview}");
    assert!(answer_of(&scene, "/", &scene.admin).contains("<h2>Sinks</h2>"));
    let own = doors::key(&scene.service, "read", &["--tenant", "acme"]);
    let answer = answer(&scene.running, "GET", "/calls/acme/kill-1", &["host: localhost", &bearer(&own)], "");
    assert!(answer.contains("The answer is yes."), "{answer}");
    let elsewhere = answer_of(&scene, "/calls?request_id=kill-1", &key);
    assert!(elsewhere.contains("No call with this request id"), "{elsewhere}");
}

#[test]
fn who_labels_second_does_not_read_the_first_label_on_the_page_of_the_call() {
    let scene = Scene::new("[review]\nsecond_share = 1.0\n");
    let review = scene.review_id();
    let said = "said=fail&note=because-of-this&adjudicates=false";
    let post = |key: &str, said: &str| {
        let headers = ["host: localhost", FORM, &bearer(key)];
        status(&answer(&scene.running, "POST", &format!("/review/{review}/label"), &headers, said))
    };
    assert_eq!(post(&scene.admin, said), 303);
    let page = answer_of(&scene, "/calls/acme/kill-1", &scene.admin);
    assert!(!page.contains("because-of-this") && page.contains("once the item is decided"), "{page}");
    doors::add(&scene.service, "ana", "review");
    let cookie = doors::cookie(&doors::sign_in(&scene.running, "ana", doors::PASSWORD));
    let headers = ["host: localhost", FORM, &cookie];
    let second = answer(&scene.running, "POST", &format!("/review/{review}/label"), &headers, said);
    assert_eq!(status(&second), 303);
    assert!(answer_of(&scene, "/calls/acme/kill-1", &scene.admin).contains("because-of-this"));
}

#[test]
fn after_signing_in_one_is_where_one_wanted_to_be() {
    let scene = Scene::new("");
    let sent = |method: &str, path: &str| {
        let answer = answer(&scene.running, method, path, &["host: localhost", FORM], "");
        answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned()
    };
    assert_eq!(sent("GET", "/golden?dataset=a&after=b"), "/sign-in?next=%2Fgolden%3Fdataset%3Da%26after%3Db");
    assert_eq!(sent("GET", "/calls/a%2Fb/c"), "/sign-in?next=%2Fcalls%2Fa%252Fb%2Fc");
    assert_eq!(
        sent("POST", "/review/1/label"),
        "/sign-in?next=%2Freview%2F1",
        "a form is gone back to, not sent again"
    );
}

/// What whoever has this key gets.
fn answer_of(scene: &Scene, path: &str, key: &str) -> String {
    answer(&scene.running, "GET", path, &["host: localhost", &bearer(key)], "")
}

/// Puts the ids of what is there into a path.
fn placed(scene: &Scene) -> impl Fn(&str) -> String {
    let dead = scene.dead_id();
    let golden = scene.golden_id();
    let reviews = scene.get("/v1/reviews?state=closed");
    let review = reviews["reviews"][0]["review_id"].as_str().unwrap().to_owned();
    move |path| path.replace("DEAD", &dead).replace("GOLDEN", &golden).replace("REVIEW", &review)
}
