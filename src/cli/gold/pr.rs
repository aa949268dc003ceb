//! `aftercheck gold pr`: the file of a data set as a pull request. The branch is named after what is in the file, so that the
//! same command, however often, leads to one branch and one pull request.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{bail, ensure};
use clap::Args;
use reqwest::Url;
use serde_json::{Value, json};

use super::{
    super::{OutputFormat, terminal},
    Dataset,
    git::{Addition, Entry, Git},
    github::{API_URL, GitHub, PullRequest, Repository, Wanted, of_remote},
    may_be_written,
};
use crate::{
    golden::{
        Most, Shelf,
        export::{Export, file_name, number_of},
    },
    outbound,
    sinks::wire,
};

/// Hosts of remotes whose API is [`API_URL`].
const GITHUB_HOSTS: [&str; 2] = ["github.com", "ssh.github.com"];
/// How many digits of the file's SHA-256 name a branch.
const DIGITS: usize = 12;

/// Arguments of `gold pr`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aftercheck gold pr --repo ../prompts --dry-run
  GITHUB_TOKEN=$(cat token) aftercheck gold pr --repo ../prompts --dataset support --base main
  aftercheck gold pr --repo . --token-file /run/secrets/github --api-url https://ghe.example/api/v3

The token needs pull requests: write, and nothing else; git pushes with its own credentials. Nothing of the checkout changes.
Exit code 1: the rows are refused, as by `gold export`; 2: GitHub or git refuses; 3: GitHub cannot be reached, or has a limit.")]
pub struct PrArgs {
    #[command(flatten)]
    dataset: Dataset,
    /// A checkout of the repository; any branch, clean or not.
    #[arg(long)]
    repo: PathBuf,
    /// The branch that the pull request is for.
    #[arg(long, default_value = "main")]
    base: String,
    /// The folder of the files in the repository.
    #[arg(long, default_value = "gold/")]
    path: String,
    /// The remote that is pushed to.
    #[arg(long, default_value = "origin")]
    remote: String,
    /// The repository of the pull request [default: that of the remote's URL].
    #[arg(long, value_name = "OWNER/NAME")]
    github: Option<Repository>,
    /// The REST API; of GitHub Enterprise Server https://HOST/api/v3.
    #[arg(long, default_value = API_URL)]
    api_url: String,
    /// Environment variable that holds the token [default: GITHUB_TOKEN].
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    token_env: Option<String>,
    /// File that holds the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Propose it although rows are alike.
    #[arg(long)]
    allow_alike: bool,
    /// Say what would be done: nothing is written or pushed, and GitHub is not asked.
    #[arg(long)]
    dry_run: bool,
}

/// Where it goes.
struct Goal {
    git: Git,
    api: Url,
    repository: Repository,
    /// Who has the branch: another than the repository's owner where the remote is a fork.
    head_owner: String,
    /// The folder, with a slash at its end; empty for the root.
    folder: String,
}

/// What is proposed.
struct Proposal {
    /// Path of the file in the repository.
    file: String,
    branch: String,
    title: String,
    body: String,
    /// The commit that it is added to.
    onto: String,
    /// Whether the branch is at the remote.
    is_pushed: bool,
}

/// Proposes the rows; false where they are refused.
pub(super) async fn run(shelf: &Shelf, args: PrArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let goal = goal(&args).await?;
    let github = match args.dry_run {
        true => None,
        false => {
            let env = args.token_file.is_none().then(|| args.token_env.as_deref().unwrap_or("GITHUB_TOKEN"));
            let token = wire::secret("token", args.token_file.as_deref(), env).map_err(anyhow::Error::msg)?;
            let Some(token) = token else { bail!("name a token with --token-env or --token-file") };
            Some(GitHub::new(&goal.api, goal.repository.clone(), token)?)
        }
    };
    let export = shelf.export(&args.dataset.dataset, Most::ALL, ()).await?;
    if !may_be_written(&export, args.allow_alike) {
        return Ok(false);
    }
    let proposal = match proposal(&goal, &args, &export).await? {
        Ok(proposal) => proposal,
        Err(file) => {
            let told = format!("{} has these rows already, as {file}", args.base);
            return print(format, &told, &json!({"outcome": "same", "file": file}));
        }
    };
    let Some(github) = github else { return plan(format, &goal, &args, &proposal) };
    let head = format!("{}:{}", goal.head_owner, proposal.branch);
    // Asked first: nothing is pushed with a token that GitHub does not take.
    if let Some(open) = github.open_one(&head, &args.base).await? {
        return found(format, &open, &proposal);
    }
    if !proposal.is_pushed {
        push(&goal, &args, &export, &proposal).await?;
    }
    let Proposal { title, body, .. } = &proposal;
    let wanted = Wanted { head, base: &args.base, title, body };
    match github.propose(&wanted).await? {
        (made, true) => outcome(format, "created", &made, &proposal),
        (open, false) => found(format, &open, &proposal),
    }
}

/// Where it goes, from what is said and from the remote's URL.
async fn goal(args: &PrArgs) -> anyhow::Result<Goal> {
    let PrArgs { base, remote, .. } = args;
    let api = outbound::url(&args.api_url, false).map_err(|error| anyhow::anyhow!("--api-url: {error}"))?;
    let folder = folder(&args.path)?;
    let git = Git::open(&args.repo).await?;
    ensure!(git.is_branch(base).await, "--base: no branch can be called {base:?}");
    ensure!(git.is_branch(remote).await, "--remote: no remote can be called {remote:?}");
    let told = of_remote(&git.url(remote).await?);
    let repository = match (&args.github, &told) {
        (Some(named), _) => named.clone(),
        (None, Some((host, _))) if args.api_url == API_URL && !GITHUB_HOSTS.contains(&host.as_str()) => {
            bail!(
                "the remote {remote} is at {host}: name its API with --api-url, or the repository with --github"
            )
        }
        (None, Some((_, repository))) => repository.clone(),
        (None, None) => bail!("the URL of the remote {remote} names no repository: say --github OWNER/NAME"),
    };
    let head_owner = told.map_or_else(|| repository.owner.clone(), |(_, repository)| repository.owner);
    Ok(Goal { git, api, repository, head_owner, folder })
}

/// The folder in the repository, with a slash at its end; empty for the root.
fn folder(path: &str) -> anyhow::Result<String> {
    let path = path.trim_end_matches('/');
    if matches!(path, "" | ".") {
        return Ok(String::new());
    }
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.eq_ignore_ascii_case(".git")
            && !part.contains(char::is_control)
    };
    ensure!(path.split('/').all(is_plain), "--path: need a folder of the repository, like gold/");
    Ok(format!("{path}/"))
}

/// What to propose; the newest file where it is the same.
async fn proposal(goal: &Goal, args: &PrArgs, export: &Export) -> anyhow::Result<Result<Proposal, String>> {
    let PrArgs { remote, base, .. } = args;
    let Some(onto) = goal.git.tip(remote, base).await? else {
        bail!("the remote {remote} has no branch {base}");
    };
    goal.git.fetch(remote, base, &onto).await?;
    let files = goal.git.files(&onto, &goal.folder).await?;
    let number =
        |entry: &Entry| number_of(&export.dataset, &entry.name).map(|number| (number, entry.blob.clone()));
    let newest = files.iter().filter_map(number).max();
    let before = match &newest {
        Some((number, blob)) if *blob == goal.git.blob(&export.content, false).await? => {
            return Ok(Err(format!("{}{}", goal.folder, file_name(&export.dataset, *number))));
        }
        Some((_, blob)) => goal.git.content(blob).await?,
        None => String::new(),
    };
    let number = newest.as_ref().map_or(0, |(number, _)| *number) + 1;
    let name = file_name(&export.dataset, number);
    // Two dots mean something in the name of a branch.
    let dataset = export.dataset.replace("..", "__");
    let digits = export.sha256.get(..DIGITS).unwrap_or_default();
    let branch = format!("aftercheck/gold/{dataset}_v{number}-{digits}");
    let is_pushed = goal.git.tip(remote, &branch).await?.is_some();
    let changes = changes(&before, &export.content);
    Ok(Ok(Proposal {
        file: format!("{}{name}", goal.folder),
        branch,
        title: format!("Golden set {}: version {number}", export.dataset),
        body: body(export, newest.map(|(number, _)| file_name(&export.dataset, number)), changes),
        onto,
        is_pushed,
    }))
}

/// Rows that are added, changed and removed between two files.
fn changes(before: &str, after: &str) -> [usize; 3] {
    let rows = |text: &str| -> BTreeMap<String, String> {
        let ids = text.lines().filter_map(|line| {
            let row: Value = serde_json::from_str(line).ok()?;
            Some((row["golden_id"].as_str()?.to_owned(), line.to_owned()))
        });
        ids.collect()
    };
    let (before, after) = (rows(before), rows(after));
    let added = after.keys().filter(|id| !before.contains_key(*id)).count();
    let changed = after.iter().filter(|(id, row)| before.get(*id).is_some_and(|old| old != *row)).count();
    let removed = before.keys().filter(|id| !after.contains_key(*id)).count();
    [added, changed, removed]
}

/// What the pull request says: counts, no text of a call.
fn body(export: &Export, before: Option<String>, [added, changed, removed]: [usize; 3]) -> String {
    let (dev, test) = export.rows;
    let since = before.map_or_else(|| "It is the first version".to_owned(), |name| format!("Since `{name}`"));
    format!(
        "`aftercheck gold pr` wrote this file from calls that people judged.\n\n\
         * Rows: {} ({dev} dev, {test} test)\n\
         * {since}: {added} added, {changed} changed, {removed} removed\n\
         * SHA-256 of the file: `{}`\n",
        dev + test,
        export.sha256
    )
}

/// Makes the commit and pushes it, unless somebody who proposes the same was quicker.
async fn push(goal: &Goal, args: &PrArgs, export: &Export, proposal: &Proposal) -> anyhow::Result<()> {
    let Proposal { file, branch, title, body, onto, .. } = proposal;
    let blob = goal.git.blob(&export.content, true).await?;
    let message = format!("{title}\n\n{body}");
    let addition = Addition { onto, blob: &blob, path: file, message: &message };
    let commit = goal.git.commit(&addition).await?;
    match goal.git.push(&args.remote, &commit, branch).await {
        Ok(()) => Ok(()),
        Err(error) => match goal.git.tip(&args.remote, branch).await {
            // Its name has the digest of the file: it is the same one.
            Ok(Some(_)) => Ok(()),
            _ => Err(error.into()),
        },
    }
}

/// Says what would be done.
fn plan(format: OutputFormat, goal: &Goal, args: &PrArgs, proposal: &Proposal) -> anyhow::Result<bool> {
    let Proposal { file, branch, title, body, is_pushed, .. } = proposal;
    let pushed = if *is_pushed { "is there" } else { "would be pushed" };
    let told = format!(
        "would propose {file} to {} for {}\nbranch {}:{branch} {pushed}\n\n{title}\n\n{body}",
        goal.repository, args.base, goal.head_owner
    );
    let line = json!({"outcome": "planned", "file": file, "branch": branch, "repository": goal.repository.to_string(),
                      "base": args.base, "title": title, "body": body, "pushed": is_pushed});
    print(format, told.trim_end(), &line)
}

/// Says that it is open already.
fn found(format: OutputFormat, open: &PullRequest, proposal: &Proposal) -> anyhow::Result<bool> {
    outcome(format, "open", open, proposal)
}

/// Says which pull request it is.
fn outcome(format: OutputFormat, what: &str, one: &PullRequest, proposal: &Proposal) -> anyhow::Result<bool> {
    let url = terminal::harmless(&one.html_url);
    let told = if what == "created" { format!("created {url}") } else { format!("open already: {url}") };
    let line = json!({"outcome": what, "url": one.html_url, "number": one.number,
                      "branch": proposal.branch, "file": proposal.file});
    print(format, &told, &line)
}

/// Prints it for people or for programs.
fn print(format: OutputFormat, told: &str, line: &Value) -> anyhow::Result<bool> {
    match format {
        OutputFormat::Json => say!("{line}"),
        OutputFormat::Table => say!("{told}"),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_in_the_repository() {
        assert_eq!(folder("gold/").unwrap(), "gold/");
        assert_eq!(folder("tests/gold").unwrap(), "tests/gold/");
        assert_eq!((folder(".").unwrap(), folder("").unwrap()), (String::new(), String::new()));
        for wrong in ["../gold", "/etc", "a//b", ".git/hooks", "a/.GIT", "a\nb", "./a"] {
            assert!(folder(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rows_are_told_apart_by_their_ids() {
        let line = |id: u8, text: &str| format!("{{\"golden_id\":\"{id}\",\"input\":\"{text}\"}}\n");
        let before = [line(1, "a"), line(2, "b"), line(3, "c")].concat();
        let after = [line(2, "b"), line(3, "C"), line(4, "d"), line(5, "e")].concat();
        assert_eq!(changes(&before, &after), [2, 1, 1]);
        assert_eq!(changes("", &after), [4, 0, 0]);
    }
}
