//! The API under `/v1/`: who may what, what is refused in which shape, what is seen of whom, and what can be done.

mod journey;
mod roles;
mod shapes;
mod tenants;

use serde_json::{Value, json};

use super::{
    doors::{JSON, bearer, guarded, key},
    service::{Running, Service, call, eventually},
};

/// A service with sign-in, with a call of acme in review and a dead letter of acme, and the key of an admin.
struct Scene {
    service: Service,
    running: Running,
    admin: String,
}

impl Scene {
    /// With more in the configuration.
    fn new(more: &str) -> Self {
        let service = guarded(more);
        let admin = key(&service, "admin", &[]);
        let running = service.start(&[]);
        let scene = Self { service, running, admin };
        let mut reviewed = call(1);
        reviewed["feedback"] = json!({"thumbs": "down"});
        assert_eq!(scene.admin("POST", "/v1/calls", &reviewed).0, 202);
        scene.enqueue(&call(10).to_string());
        scene
    }

    /// Puts a message on the queue as a broker would, whatever it is.
    fn enqueue(&self, message: &str) {
        use std::{io::Write, process::Stdio};
        let mut enqueue = self.service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        writeln!(enqueue.stdin.take().unwrap(), "{message}").unwrap();
        assert!(enqueue.wait().unwrap().success());
    }

    /// What the API answers to whoever has this key.
    fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (headers, body) = match body {
            Value::Null => (vec![bearer(key)], String::new()),
            body => (vec![bearer(key), JSON.to_owned()], body.to_string()),
        };
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let (status, body) = self.running.request(method, path, &headers, body.as_bytes());
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// What it answers to the admin.
    fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask(&self.admin, method, path, body)
    }

    /// What it tells the admin.
    fn get(&self, path: &str) -> Value {
        let (status, body) = self.admin("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The id of the call's review item, once it is there.
    fn review_id(&self) -> String {
        let found = eventually(|| {
            let reviews = self.get("/v1/reviews");
            Some(reviews["reviews"][0]["review_id"].as_str()?.to_owned())
        });
        found.expect("the call comes to review")
    }

    /// The id of the dead letter, once it is there.
    fn dead_id(&self) -> String {
        let found = eventually(|| {
            let dead = self.get("/v1/dead");
            Some(dead["letters"][0]["dead_letter_id"].as_str()?.to_owned())
        });
        found.expect("the message is dead")
    }

    /// Labels the call and makes a row of it, whose id this is.
    fn golden_id(&self) -> String {
        let review = self.review_id();
        let label = json!({"said": "fail", "expected": "No."});
        assert_eq!(self.admin("POST", &format!("/v1/reviews/{review}/label"), &label).0, 200);
        let (status, row) = self.admin("POST", "/v1/golden", &json!({"of": {"review_id": review}}));
        assert_eq!(status, 200, "{row}");
        row["golden"]["golden_id"].as_str().unwrap().to_owned()
    }
}

/// The operations of the document: method and path.
fn operations() -> Vec<(String, String)> {
    let document = aftercheck::http::openapi();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            found.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// A path with these in place of what stands in braces.
fn filled(path: &str, known: &[(&str, &str)]) -> String {
    known.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value))
}
