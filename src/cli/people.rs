//! `aftercheck people add|list|role|grant|password|disable|enable|log`

use std::io::{BufRead, IsTerminal, Read};

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use super::{OutputFormat, open, terminal};
use crate::{
    access::{Gate, password::MAX_BYTES, secret},
    config::Config,
    domain::{Person, Role},
    service,
    store::accounts::{Account, AuditEntry, Granted},
};

/// Who does what is done here, in the audit log.
pub(super) const BY: &str = "command line";

/// Arguments of `people`.
#[derive(Debug, Args)]
#[command(after_help = "\
A password is asked for on a terminal, or read as one line from stdin: it is never an argument, which others could see. A change of \
role, password, tenants or features, and disabling somebody, end their sessions.

Examples:
  aftercheck people add ana --role review --tenant acme --generate
  aftercheck people grant ana --tenant acme --tenant globex --all-features
  aftercheck people password ana < password.txt
  aftercheck people disable ana")]
pub struct PeopleArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with accounts.
#[derive(Debug, Subcommand)]
enum Action {
    /// Add somebody.
    Add {
        /// Their name.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: Word,
        /// A tenant that they may see; may be given several times [default: all].
        #[arg(long)]
        tenant: Vec<String>,
        /// A feature that they review; may be given several times [default: all].
        #[arg(long)]
        feature: Vec<String>,
        /// Make a password and print it once.
        #[arg(long)]
        generate: bool,
    },
    /// List everybody.
    List,
    /// Give somebody another role.
    Role {
        /// Their name.
        name: String,
        /// What they may do.
        #[arg(value_enum)]
        role: Word,
    },
    /// Have somebody see other tenants or features: those that are named, in place of those before.
    Grant(GrantArgs),
    /// Give somebody another password.
    Password {
        /// Their name.
        name: String,
        /// Make a password and print it once.
        #[arg(long)]
        generate: bool,
    },
    /// Let somebody in no more.
    Disable {
        /// Their name.
        name: String,
    },
    /// Let somebody in again.
    Enable {
        /// Their name.
        name: String,
    },
    /// Show the audit log, newest first.
    Log {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

/// What somebody is to see. What is not named stays.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("seen").args(["tenant", "all_tenants", "feature", "all_features"]).required(true).multiple(true))]
struct GrantArgs {
    /// Their name.
    name: String,
    /// A tenant that they may see; may be given several times.
    #[arg(long)]
    tenant: Vec<String>,
    /// They may see all tenants.
    #[arg(long, conflicts_with = "tenant")]
    all_tenants: bool,
    /// A feature that they review; may be given several times.
    #[arg(long)]
    feature: Vec<String>,
    /// They review all features.
    #[arg(long, conflicts_with = "feature")]
    all_features: bool,
}

/// A role.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Word {
    /// Hand in calls and feedback, and see nothing.
    Ingest,
    /// See calls, verdicts and reports.
    Read,
    /// Label calls, too.
    Review,
    /// Everything.
    Admin,
}

impl From<Word> for Role {
    fn from(word: Word) -> Self {
        match word {
            Word::Ingest => Self::Ingest,
            Word::Read => Self::Read,
            Word::Review => Self::Review,
            Word::Admin => Self::Admin,
        }
    }
}

/// Does it; false where there is nobody of this name, or the name is taken.
pub async fn run(config: &Config, args: PeopleArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let gate = Gate::new(store.clone());
    let done = match args.action {
        Action::Add { name, role, tenant, feature, generate } => {
            let password = password(generate)?;
            let (tenants, features) = (granted(config, tenant)?, named(feature));
            let person = Person { name, role: role.into(), tenants, features };
            let added = gate.add(&person, password.secret.clone(), BY).await?;
            anyhow::ensure!(added, "{} is there already: see `aftercheck people list`", person.name);
            password.show()?;
            eprintln!("{} is added", terminal::harmless(&person.name));
            true
        }
        Action::List => {
            list(&store.accounts().await?, format)?;
            true
        }
        Action::Grant(GrantArgs { name, tenant, all_tenants, feature, all_features }) => {
            let tenants = seen(granted(config, tenant)?, all_tenants);
            let features = seen(named(feature), all_features);
            known(&name, gate.grant(&name, tenants, features, BY).await?)
        }
        Action::Role { name, role } => known(&name, gate.set_role(&name, role.into(), BY).await?),
        Action::Password { name, generate } => {
            let password = password(generate)?;
            let set = known(&name, gate.set_password(&name, password.secret.clone(), BY).await?);
            if set {
                password.show()?;
            }
            set
        }
        Action::Disable { name } => known(&name, gate.disable(&name, true, BY).await?),
        Action::Enable { name } => known(&name, gate.disable(&name, false, BY).await?),
        Action::Log { limit } => {
            log(&store.audit_log(None, limit).await?, format)?;
            true
        }
    };
    databases.close().await;
    Ok(done)
}

/// Tenants under the names that redaction leaves them, under which calls are kept.
pub(super) fn granted(config: &Config, tenants: Vec<String>) -> anyhow::Result<Option<Vec<String>>> {
    let redactor = service::redactor(config)?;
    Ok(named(tenants.iter().map(|tenant| redactor.identity(tenant).into_owned()).collect()))
}

/// What was named; none where nothing was.
fn named(names: Vec<String>) -> Option<Vec<String>> {
    (!names.is_empty()).then_some(names)
}

/// What somebody is to see.
fn seen(names: Option<Vec<String>>, all: bool) -> Granted {
    match names {
        Some(names) => Granted::Only(names),
        None if all => Granted::All,
        None => Granted::Same,
    }
}

/// Says that somebody was changed, or that there is nobody of this name.
fn known(name: &str, done: bool) -> bool {
    let name = terminal::harmless(name);
    match done {
        true => eprintln!("{name} is changed; their sessions are over"),
        false => eprintln!("nobody is called {name}; see `aftercheck people list`"),
    }
    done
}

/// A password, and whether we made it.
struct Password {
    secret: SecretString,
    is_ours: bool,
}

impl Password {
    /// Prints it where nobody knows it yet.
    fn show(&self) -> anyhow::Result<()> {
        if self.is_ours {
            say!("{}", self.secret.expose_secret());
        }
        Ok(())
    }
}

/// Makes, asks for, or reads a password.
fn password(generate: bool) -> anyhow::Result<Password> {
    if generate {
        return Ok(Password { secret: secret::password()?, is_ours: true });
    }
    let text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password("password: ").context("password")?
    } else {
        let mut line = String::new();
        let longest = u64::try_from(MAX_BYTES)? + 2;
        std::io::stdin().lock().take(longest).read_line(&mut line).context("password on stdin")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    Ok(Password { secret: text.into(), is_ours: false })
}

/// Names of tenants or features in a cell.
pub(super) fn cell(names: Option<&Vec<String>>) -> String {
    names.map_or("all".to_owned(), |names| terminal::harmless(&names.join(", ")))
}

/// Prints accounts.
fn list(accounts: &[Account], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for account in accounts {
            say!("{}", serde_json::to_string(account)?);
        }
        return Ok(());
    }
    let mut table = terminal::table(&["name", "role", "tenants", "features", "state"]);
    for Account { person, disabled_ms, .. } in accounts {
        table.add_row(vec![
            terminal::harmless(&person.name),
            person.role.as_str().to_owned(),
            cell(person.tenants.as_ref()),
            cell(person.features.as_ref()),
            if disabled_ms.is_some() { "disabled" } else { "on" }.to_owned(),
        ]);
    }
    say!("{table}");
    Ok(())
}

/// Prints the audit log.
fn log(entries: &[AuditEntry], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for entry in entries {
            say!("{}", serde_json::to_string(entry)?);
        }
        return Ok(());
    }
    let mut table = terminal::table(&["when", "who", "what", "about"]);
    for entry in entries {
        table.add_row(vec![
            jiff::Timestamp::from_millisecond(entry.at_ms)?.to_string(),
            terminal::harmless(&entry.who),
            entry.what.clone(),
            terminal::harmless(&entry.about),
        ]);
    }
    say!("{table}");
    Ok(())
}
