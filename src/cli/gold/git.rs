//! git as a subprocess. A commit is made of objects alone, with an index of its own: no branch, index or work tree of the
//! checkout is touched, and no hook of it runs.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::LazyLock,
    time::Duration,
};

use regex::Regex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::super::terminal::harmless;
use crate::sinks::cut;

/// Longest that git may take: a push to a far server included.
const DEADLINE: Duration = Duration::from_secs(120);
/// Most that is read of what git prints, and of what it complains.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
const MAX_COMPLAINT_BYTES: u64 = 64 << 10;
/// Most that is shown of a complaint.
const SHOWN_BYTES: usize = 600;
/// Settings of the user's that would run something, or do more than is asked.
const SETTINGS: [&str; 5] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "color.ui=false",
];
/// What a hook that calls us has in its environment, and would lead git elsewhere.
const ELSEWHERE: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
];
/// Who commits where git knows nobody, as in CI.
const NOBODY: (&str, &str) = ("aftercheck", "aftercheck@localhost");

/// What stands between `//` and `@` of a URL: a password, where there is one.
static LOGIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"://[^/@\s]+@").ok());

/// Why git did not do it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started.
    #[error("git could not be started: is it installed, and is there a folder {0}?")]
    Absent(PathBuf, #[source] std::io::Error),
    /// It ran past its deadline, as it does where it asks for a password.
    #[error("git {0} did not end within {secs} s", secs = .1.as_secs())]
    Late(String, Duration),
    /// It said no.
    #[error("git {0}: {1}")]
    Failed(String, String),
}

impl GitError {
    /// Whether it may go well later.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late(..))
    }
}

/// A repository.
pub(super) struct Git {
    repo: PathBuf,
    deadline: Duration,
}

/// A file of a commit.
pub(super) struct Entry {
    /// Its name, without its folder.
    pub name: String,
    /// Its blob.
    pub blob: String,
}

/// What a commit adds to another.
pub(super) struct Addition<'a> {
    /// The commit that it is added to.
    pub onto: &'a str,
    /// The blob.
    pub blob: &'a str,
    /// Its path from the root of the repository.
    pub path: &'a str,
    /// What the commit says.
    pub message: &'a str,
}

impl Git {
    /// The repository that a folder is in.
    pub async fn open(repo: &Path) -> Result<Self, GitError> {
        let git = Self { repo: repo.to_owned(), deadline: DEADLINE };
        git.text(&["rev-parse", "--git-dir"]).await?;
        Ok(git)
    }

    /// The URL that a remote is pushed to.
    pub async fn url(&self, remote: &str) -> Result<String, GitError> {
        self.text(&["remote", "get-url", "--push", "--", remote]).await
    }

    /// Whether a branch can have this name.
    pub async fn is_branch(&self, name: &str) -> bool {
        self.text(&["check-ref-format", &format!("refs/heads/{name}")]).await.is_ok()
    }

    /// The commit of a branch at a remote; none where it is not there.
    pub async fn tip(&self, remote: &str, branch: &str) -> Result<Option<String>, GitError> {
        let name = format!("refs/heads/{branch}");
        let told = self.text(&["ls-remote", "--", remote, &name]).await?;
        // A pattern matches the ends of names, too.
        let mut lines = told.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines.find(|(_, found)| *found == name).map(|(commit, _)| commit.to_owned()))
    }

    /// Gets a branch's commit, where it is not there; no ref of the checkout moves.
    pub async fn fetch(&self, remote: &str, branch: &str, commit: &str) -> Result<(), GitError> {
        if self.text(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).await.is_ok() {
            return Ok(());
        }
        let branch = format!("refs/heads/{branch}");
        let flags = ["--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--recurse-submodules=no"];
        self.text(&[&["fetch"], &flags[..], &["--", remote, &branch]].concat()).await.map(drop)
    }

    /// The files in a folder of a commit.
    pub async fn files(&self, commit: &str, folder: &str) -> Result<Vec<Entry>, GitError> {
        let paths: &[&str] = if folder.is_empty() { &[] } else { &["--", folder] };
        let listed = self.text(&[&["ls-tree", "-z", "--full-tree", commit], paths].concat()).await?;
        let entries = listed.split('\0').filter_map(|entry| {
            let (what, path) = entry.split_once('\t')?;
            let blob = what.split(' ').nth(2).filter(|_| what.contains(" blob "))?;
            Some(Entry { name: path.strip_prefix(folder)?.to_owned(), blob: blob.to_owned() })
        });
        Ok(entries.collect())
    }

    /// The content of a blob.
    pub async fn content(&self, blob: &str) -> Result<String, GitError> {
        let output = self.output(&["cat-file", "blob", blob], &[], None).await?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// The name of the blob with this content. It is written only where it is wanted: no filter changes it.
    pub async fn blob(&self, content: &str, is_wanted: bool) -> Result<String, GitError> {
        let arguments: &[&str] = match is_wanted {
            true => &["hash-object", "--no-filters", "--stdin", "-w"],
            false => &["hash-object", "--no-filters", "--stdin"],
        };
        Ok(trimmed(&self.output(arguments, content.as_bytes(), None).await?))
    }

    /// Makes a commit that adds a blob to another; no branch leads to it.
    pub async fn commit(&self, addition: &Addition<'_>) -> Result<String, GitError> {
        let scratch = tempfile::tempdir().map_err(|error| GitError::Absent(self.repo.clone(), error))?;
        let index = scratch.path().join("index");
        let file = format!("100644,{},{}", addition.blob, addition.path);
        self.output(&["read-tree", addition.onto], &[], Some(&index)).await?;
        self.output(&["update-index", "--add", "--cacheinfo", &file], &[], Some(&index)).await?;
        let tree = trimmed(&self.output(&["write-tree", "--missing-ok"], &[], Some(&index)).await?);
        let arguments = ["commit-tree", &tree, "-p", addition.onto, "-F", "-"];
        Ok(trimmed(&self.output(&arguments, addition.message.as_bytes(), None).await?))
    }

    /// Pushes a commit as a branch that must not be there yet.
    pub async fn push(&self, remote: &str, commit: &str, branch: &str) -> Result<(), GitError> {
        let flags = ["--quiet", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"];
        let absent = format!("--force-with-lease=refs/heads/{branch}:");
        let what = format!("{commit}:refs/heads/{branch}");
        self.text(&[&["push"], &flags[..], &[&absent, "--", remote, &what]].concat()).await.map(drop)
    }

    /// What a command prints.
    async fn text(&self, arguments: &[&str]) -> Result<String, GitError> {
        Ok(trimmed(&self.output(arguments, &[], None).await?))
    }

    /// Runs a command with an input, and an index other than the checkout's.
    async fn output(
        &self,
        arguments: &[&str],
        input: &[u8],
        index: Option<&Path>,
    ) -> Result<Vec<u8>, GitError> {
        let what = arguments.first().copied().unwrap_or_default().to_owned();
        let mut command = self.command();
        command.args(arguments);
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        if what == "commit-tree" && !self.knows_who().await {
            for role in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{role}_NAME"), NOBODY.0).env(format!("GIT_{role}_EMAIL"), NOBODY.1);
            }
        }
        let run = run(command, input);
        let late = |_| GitError::Late(what.clone(), self.deadline);
        let output = timeout(self.deadline, run).await.map_err(late)?;
        let output = output.map_err(|error| GitError::Absent(self.repo.clone(), error))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(GitError::Failed(what, complaint(&output.stderr))),
        }
    }

    /// Whether git knows who commits.
    async fn knows_who(&self) -> bool {
        let mut command = self.command();
        command.args(["-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"]);
        let ran = timeout(self.deadline, run(command, &[])).await;
        ran.is_ok_and(|ran| ran.is_ok_and(|output| output.status.success()))
    }

    /// git in this repository, asking nobody anything.
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.repo);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        let asks_nobody: [(&str, &OsStr); 6] = [
            ("GIT_TERMINAL_PROMPT", OsStr::new("0")),
            // Empty, it goes before every other program that would ask.
            ("GIT_ASKPASS", OsStr::new("")),
            ("SSH_ASKPASS_REQUIRE", OsStr::new("never")),
            ("GIT_OPTIONAL_LOCKS", OsStr::new("0")),
            ("GIT_LITERAL_PATHSPECS", OsStr::new("1")),
            ("LC_ALL", OsStr::new("C")),
        ];
        command.envs(asks_nobody).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

/// Runs a command to its end. What nobody waits for any more is killed.
async fn run(mut command: Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read to the end says why by itself.
            drop(stdin.write_all(input).await);
        }
    };
    let ((), stdout, stderr) =
        tokio::join!(feed, all(stdout, MAX_OUTPUT_BYTES), all(stderr, MAX_COMPLAINT_BYTES));
    let status = child.wait().await?;
    Ok(Output { status, stdout: stdout?, stderr: stderr? })
}

/// All that comes, up to a limit.
async fn all(from: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut read).await?;
    }
    Ok(read)
}

/// Output without the end of its line.
fn trimmed(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end_matches('\n').to_owned()
}

/// What git complains, on one line and without the login of a URL.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = harmless(text.trim());
    let line = LOGIN
        .as_ref()
        .map_or("its complaint cannot be shown".into(), |login| login.replace_all(&line, "://").into_owned());
    if line.is_empty() { "it failed".to_owned() } else { cut(&line, SHOWN_BYTES).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_is_killed_in_time() {
        let git = Git { repo: std::env::temp_dir(), deadline: Duration::from_millis(200) };
        let began = std::time::Instant::now();
        // Nothing of the kind is ever run: it stands for a server that does not answer.
        let ran = git.text(&["-c", "alias.wait=!exec sleep 30", "wait"]).await;
        assert!(ran.is_err_and(|error| error.is_late()));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_complaint_is_one_line_without_a_password() {
        let said = b"fatal: unable to access 'https://ana:hunter2@git.example/r/':\n\x1b[31m no\n";
        let line = complaint(said);
        assert_eq!(line, "fatal: unable to access 'https://git.example/r/': \u{fffd}[31m no");
        assert_eq!(complaint(b"\n"), "it failed");
    }
}
