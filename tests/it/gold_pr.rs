//! `aftercheck gold pr` against a GitHub that keeps to its contract, and a repository on disk that it pushes to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::{
    notify::receiver::{Receiver, Request, Says},
    service::{Parts, Service},
};

/// The token; nothing that is printed, pushed or logged may hold it.
const TOKEN: &str = "github_pat_hunter2secret";

/// Runs git in a folder.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=Ana", "-c", "user.email=ana@acme.example"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What GitHub holds: pull requests that are open, over a repository on disk.
struct Hub {
    remote: PathBuf,
    open: Vec<Value>,
}

impl Hub {
    /// Answers a request as the documentation says.
    fn answer(&mut self, request: &Request) -> Says {
        let said =
            |status, message: &str| Says::Status(status, vec![], json!({"message": message}).to_string());
        if request.header("user-agent").is_empty() {
            return said(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            );
        }
        let needed = [("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")];
        if needed.iter().any(|(name, value)| request.header(name) != *value) {
            return said(400, "a header is missing");
        }
        if request.header("authorization") != format!("Bearer {TOKEN}") {
            return said(401, "Bad credentials");
        }
        let target = request.line.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != "/api/v3/repos/acme/prompts/pulls" {
            return said(404, "Not Found");
        }
        match request.line.split(' ').next().unwrap() {
            "GET" => self.list(query),
            "POST" => self.create(&request.json()),
            _ => said(405, "no such method"),
        }
    }

    /// The pull requests of a branch that are open.
    fn list(&self, query: &str) -> Says {
        let query = query.replace("%3A", ":").replace("%2F", "/");
        assert!(query.contains("state=open"), "{query}");
        let head = query.split('&').find_map(|part| part.strip_prefix("head=")).unwrap();
        let found: Vec<&Value> = self.open.iter().filter(|pull| pull["head"]["label"] == head).collect();
        Says::Status(200, vec![], json!(found).to_string())
    }

    /// Opens a pull request, or says why not.
    fn create(&mut self, wanted: &Value) -> Says {
        let refused = |message: String| {
            let errors = json!([{"resource": "PullRequest", "code": "custom", "message": message}]);
            let body = json!({"message": "Validation Failed", "errors": errors});
            Says::Status(422, vec![], body.to_string())
        };
        let [head, base] = [&wanted["head"], &wanted["base"]].map(|text| text.as_str().unwrap());
        let branch = head.split_once(':').unwrap().1;
        if self.open.iter().any(|pull| pull["head"]["label"] == head) {
            return refused(format!("A pull request already exists for {head}."));
        }
        let range = format!("{base}..{branch}");
        if git(&self.remote, &["rev-list", "--count", &range]) == "0" {
            return refused(format!("No commits between {base} and {branch}"));
        }
        let number = self.open.len() + 1;
        let url = format!("https://github.example/acme/prompts/pull/{number}");
        let pull = json!({"number": number, "html_url": url, "state": "open", "title": wanted["title"],
                          "body": wanted["body"], "head": {"label": head}, "base": {"ref": base}});
        self.open.push(pull.clone());
        Says::Status(201, vec![], pull.to_string())
    }
}

/// A service with one row, a checkout with somebody's work in it, its remote, and GitHub.
struct Scene {
    service: Service,
    github: Receiver,
    hub: Arc<Mutex<Hub>>,
    checkout: PathBuf,
    remote: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let config = "[source]\nlease_secs = 1\n".to_owned();
        let mut service = Service::of(Parts { config: Some(config), ..Parts::default() });
        service.variables.push(("GITHUB_TOKEN".into(), TOKEN.into()));
        // Whoever runs the tests may have settings that CI has not.
        service.variables.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()));
        service.enqueue(3);
        assert!(service.drain(&[]).wait().unwrap().success());
        let (remote, checkout) = (service.path("prompts.git"), service.path("prompts"));
        fs::create_dir(&remote).unwrap();
        git(&remote, &["init", "--quiet", "--bare", "--initial-branch=main"]);
        git(&service.path(""), &["clone", "--quiet", "prompts.git", "prompts"]);
        git(&checkout, &["checkout", "--quiet", "-B", "main"]);
        fs::write(checkout.join("prompt.txt"), "Answer from the contexts.\n").unwrap();
        git(&checkout, &["add", "."]);
        git(&checkout, &["commit", "--quiet", "-m", "first"]);
        git(&checkout, &["push", "--quiet", "origin", "main"]);
        let hub = Arc::new(Mutex::new(Hub { remote: remote.clone(), open: Vec::new() }));
        let asked = Arc::clone(&hub);
        let github = Receiver::keeps(move |request| asked.lock().unwrap().answer(request));
        let scene = Self { service, github, hub, checkout, remote };
        scene.promote("You can return it within 30 days.");
        scene
    }

    /// Labels the next call and makes a row of it.
    fn promote(&self, expected: &str) {
        let next = self.service.json(&["review", "next", "--reviewer", "ana"]);
        let [id, request] = ["review_id", "request_id"].map(|name| next["review"][name].as_str().unwrap());
        let label = ["review", "label", id, "fail", "--reviewer", "ana", "--expected", expected];
        assert!(self.service.command(&label).status().unwrap().success());
        assert!(
            self.service.command(&["gold", "promote", request, "--by", "ana"]).status().unwrap().success()
        );
    }

    /// Runs `gold pr`.
    fn pr(&self, more: &[&str]) -> Output {
        let (api, repo) = (self.github.url("/api/v3"), self.checkout.to_str().unwrap());
        // The two rows of these tests are alike.
        let mut arguments = vec!["gold", "pr", "--repo", repo, "--allow-alike"];
        for (name, value) in [("--api-url", api.as_str()), ("--github", "acme/prompts")] {
            if !more.contains(&name) {
                arguments.extend([name, value]);
            }
        }
        arguments.extend(more);
        let mut command = self.service.command(&arguments);
        let output = command.env("AFTERCHECK_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = output.output().unwrap();
        for text in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(text).contains("hunter2"), "the token is printed");
        }
        output
    }

    /// What it prints where it goes well.
    fn line(&self, more: &[&str]) -> Value {
        let output = self.pr(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it complains, with this exit code.
    fn refusal(&self, code: i32, more: &[&str]) -> String {
        let output = self.pr(more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        // Debug logs come before it.
        said.lines().filter(|line| line.starts_with("aftercheck: ")).collect::<Vec<_>>().join("\n")
    }

    /// Branches of the remote beside main.
    fn branches(&self) -> Vec<String> {
        let listed = git(&self.remote, &["branch", "--format=%(refname:short)"]);
        listed.lines().filter(|name| *name != "main").map(str::to_owned).collect()
    }

    /// GitHub answers nothing but this.
    fn github_says(&self, status: u16, headers: &[(&'static str, &str)], message: &str) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.github.answers(Says::Status(status, headers, json!({"message": message}).to_string()));
    }
}

#[test]
fn the_same_rows_are_proposed_once() {
    let scene = Scene::new();
    let planned = scene.line(&["--dry-run"]);
    assert_eq!((planned["outcome"].as_str(), planned["pushed"].as_bool()), (Some("planned"), Some(false)));
    assert!(scene.branches().is_empty() && scene.github.requests().is_empty(), "nothing but words");

    let created = scene.line(&[]);
    assert_eq!(created["outcome"], "created", "{created}");
    assert_eq!(created["url"], "https://github.example/acme/prompts/pull/1");
    let branch = created["branch"].as_str().unwrap();
    assert_eq!((&planned["branch"], scene.branches()), (&created["branch"], vec![branch.to_owned()]));
    let changed = git(&scene.remote, &["diff", "--name-status", "main", branch]);
    assert_eq!(changed, "A\tgold/golden_v1.jsonl");
    let file = git(&scene.remote, &["show", &format!("{branch}:gold/golden_v1.jsonl")]);
    assert_eq!(file.lines().count(), 1);
    let commit = git(&scene.remote, &["log", "-1", "--format=%an|%B", branch]);
    assert!(commit.starts_with("aftercheck|Golden set golden: version 1"), "{commit}");
    let body = scene.hub.lock().unwrap().open[0]["body"].to_string();
    assert!(body.contains("1 added, 0 changed, 0 removed") && !body.contains("answer is yes"), "{body}");

    let again = scene.line(&[]);
    assert_eq!((again["outcome"].as_str(), &again["url"]), (Some("open"), &created["url"]));
    let posts = || scene.github.requests().iter().filter(|request| request.line.starts_with("POST")).count();
    assert_eq!((posts(), scene.branches().len()), (1, 1));

    // Pushed, and then it died: the next one opens the pull request of the branch that is there.
    let tip = git(&scene.remote, &["rev-parse", branch]);
    scene.hub.lock().unwrap().open.clear();
    assert_eq!(scene.line(&[])["outcome"], "created");
    assert_eq!((git(&scene.remote, &["rev-parse", branch]), posts()), (tip, 2));

    git(&scene.remote, &["update-ref", "refs/heads/main", branch]);
    let same = scene.line(&[]);
    assert_eq!((&same["outcome"], &same["file"]), (&json!("same"), &json!("gold/golden_v1.jsonl")));
    // What is new comes behind what was merged.
    scene.promote("The discount is 10 %.");
    let second = scene.line(&[]);
    assert_eq!((&second["outcome"], &second["file"]), (&json!("created"), &json!("gold/golden_v2.jsonl")));
    assert!(scene.hub.lock().unwrap().open[1]["body"].to_string().contains("1 added, 0 changed, 0 removed"));
}

#[test]
fn who_was_quicker_with_the_same_branch_is_no_error() {
    let scene = Scene::new();
    // The branch appears between our question and our push.
    let hook = scene.remote.join("hooks/update");
    fs::write(&hook, "#!/bin/sh\ngit update-ref \"$1\" \"$3\"\n").unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let created = scene.line(&[]);
    assert_eq!(created["outcome"], "created", "{created}");
    assert_eq!(scene.branches(), [created["branch"].as_str().unwrap()]);
    // One that refuses for another reason is told of.
    fs::write(&hook, "#!/bin/sh\necho 'the branch is protected' >&2\nexit 1\n").unwrap();
    scene.promote("The discount is 10 %.");
    assert!(scene.refusal(2, &[]).contains("the branch is protected"));
}

#[test]
fn what_somebody_is_working_on_is_not_touched_and_no_hook_runs() {
    let scene = Scene::new();
    git(&scene.checkout, &["checkout", "--quiet", "-b", "mine"]);
    fs::write(scene.checkout.join("prompt.txt"), "changed\n").unwrap();
    fs::write(scene.checkout.join("staged.txt"), "staged\n").unwrap();
    fs::write(scene.checkout.join("loose.txt"), "loose\n").unwrap();
    git(&scene.checkout, &["add", "staged.txt"]);
    for hook in ["pre-push", "reference-transaction", "post-index-change", "pre-commit"] {
        let path = scene.checkout.join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\ntouch '{}'\nexit 1\n", scene.checkout.join("hooked").display()))
            .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
    }
    let state = || {
        let index = fs::read(scene.checkout.join(".git/index")).unwrap();
        let status = git(&scene.checkout, &["--no-optional-locks", "status", "--porcelain", "--branch"]);
        (status, index, git(&scene.checkout, &["branch", "--list"]), git(&scene.checkout, &["stash", "list"]))
    };
    let before = state();
    // main has moved since the checkout was made: the commit goes onto what the remote has.
    let other = scene.service.path("other");
    git(&scene.service.path(""), &["clone", "--quiet", "prompts.git", "other"]);
    git(&other, &["commit", "--quiet", "--allow-empty", "-m", "second"]);
    git(&other, &["push", "--quiet", "origin", "HEAD:main"]);
    let created = scene.line(&["--path", "tests/gold"]);
    assert_eq!(created["outcome"], "created");
    assert_eq!(state(), before);
    assert!(!scene.checkout.join("hooked").exists() && !scene.checkout.join("tests").exists());
    let parent = format!("{}^", created["branch"].as_str().unwrap());
    assert_eq!(git(&scene.remote, &["rev-parse", &parent]), git(&scene.remote, &["rev-parse", "main"]));
}

#[test]
fn what_github_refuses_is_told_and_nothing_is_pushed() {
    let scene = Scene::new();
    let file = scene.service.path("token");
    fs::write(&file, "github_pat_wrong\n").unwrap();
    let said = scene.refusal(2, &["--token-file", file.to_str().unwrap()]);
    assert!(said.contains("does not know this token (401)"), "{said}");
    assert!(scene.refusal(2, &["--token-env", "NO_SUCH_TOKEN"]).contains("it is not set"));
    let said = scene.refusal(2, &["--github", "acme/other"]);
    assert!(said.contains("no repository acme/other, or the token cannot see it"), "{said}");
    scene.github_says(
        403,
        &[("x-ratelimit-remaining", "0"), ("retry-after", "61")],
        "API rate limit exceeded",
    );
    assert!(scene.refusal(3, &[]).contains("try again in 61 s"));
    scene.github_says(429, &[], "You have exceeded a secondary rate limit");
    assert!(scene.refusal(3, &[]).contains("in some minutes"));
    scene.github_says(
        403,
        &[("x-ratelimit-remaining", "4999")],
        "Resource not accessible by personal access token",
    );
    let said = scene.refusal(2, &[]);
    assert!(said.contains("not accessible") && said.contains("pull requests: write"), "{said}");
    // What repeats the token is not shown.
    scene.github_says(400, &[], &format!("bad header Bearer {TOKEN}"));
    assert!(scene.refusal(2, &[]).ends_with("refused the pull request (400 Bad Request)"));
    scene.github_says(302, &[("location", "https://elsewhere.example/")], "moved");
    assert!(scene.refusal(2, &[]).contains("302"));
    scene.github.answers(Says::Status(200, vec![], "<html>".into()));
    assert!(scene.refusal(2, &[]).contains("not GitHub's API"));
    scene.github_says(502, &[], "");
    assert!(scene.refusal(3, &[]).contains("goes on where this one ended"));
    assert!(scene.branches().is_empty());
}

#[test]
fn a_branch_without_a_commit_of_its_own_is_refused_in_githubs_words() {
    let scene = Scene::new();
    let planned = scene.line(&["--dry-run"]);
    let branch = format!("refs/heads/{}", planned["branch"].as_str().unwrap());
    git(&scene.remote, &["update-ref", &branch, "main"]);
    assert!(scene.refusal(2, &[]).contains("No commits between main and aftercheck/gold/"));
}

#[test]
fn rows_with_what_is_personal_are_not_proposed() {
    let scene = Scene::new();
    let mut config = fs::read_to_string(scene.service.path("c.toml")).unwrap();
    // Named after the row was made.
    config.push_str("[redaction.recognisers]\ndeny_lists = [{ name = \"project\", words = [\"yes\"] }]\n");
    fs::write(scene.service.path("c.toml"), config).unwrap();
    let said = scene.refusal(1, &[]);
    assert!(said.contains("holds what [redaction] takes out"), "{said}");
    assert!(scene.branches().is_empty() && scene.github.requests().is_empty());
    assert!(scene.refusal(1, &["--dataset", "empty"]).contains("has no rows"));
}

#[test]
fn what_leads_elsewhere_is_bad_usage() {
    let scene = Scene::new();
    for (arguments, told) in [
        (["--path", "../gold"], "need a folder of the repository"),
        (["--base", "no..branch"], "no branch can be called"),
        (["--base", "nowhere"], "has no branch nowhere"),
        (["--remote", "--upload-pack=x"], "error"),
        (["--remote", "nobody"], "No such remote"),
        (["--api-url", "http://github.example"], "plain http to another machine"),
        (["--github", "acme"], "error"),
    ] {
        let output = scene.pr(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(told), "{arguments:?}: {said}");
    }
    assert!(scene.branches().is_empty() && scene.github.requests().is_empty());
}
