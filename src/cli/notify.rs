//! `aftercheck notify list|test|on`

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    domain::Message,
    pipeline::notify::{Routes, config::RouteConfig},
    service,
    sinks::destination::Told,
    store::notices::RouteState,
};

/// Arguments of `notify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Routes are [notify.routes.NAME] of the configuration. A route whose receiver wants no more (status 410) is switched off and \
keeps what it has to tell; `on` has it told.")]
pub struct NotifyArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with routes.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show each route: what waits, what was told and given up within 30 days, and why the last attempt failed.
    List,
    /// Send a test message by a route, whatever its quiet hours and digest are, and say what came of it.
    Test {
        /// Its name.
        route: String,
    },
    /// Switch a route on again that was switched off.
    On {
        /// Its name.
        route: String,
    },
}

/// Does it; false where the test did not arrive, or the route was not off.
pub async fn run(config: &Config, args: NotifyArgs, format: OutputFormat) -> anyhow::Result<bool> {
    match args.action {
        Action::List => list(config, format).await,
        Action::Test { route } => test(config, &route, format).await,
        Action::On { route } => on(config, &route).await,
    }
}

/// The route of this name.
fn named<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a RouteConfig> {
    let routes = &config.notify.routes;
    let known = || routes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    routes.get(name).ok_or_else(|| match routes.is_empty() {
        true => anyhow::anyhow!("no route {name}: [notify.routes] has none"),
        false => anyhow::anyhow!("no route {name}; there are: {}", known()),
    })
}

/// Sends a test message. Nothing is written: a test that fails is not tried again.
async fn test(config: &Config, name: &str, format: OutputFormat) -> anyhow::Result<bool> {
    let wrong = |wrong| anyhow::anyhow!("[notify.routes.{name}] to: {wrong}");
    let destination = named(config, name)?.to.build().map_err(wrong)?;
    let routes = Routes::new(&config.notify, config.http.pages()?, &*service::redactor(config)?);
    let message = Message::of(name, vec![routes.test(name, Timestamp::now())]);
    let told = destination.tell(&message).await;
    let (arrived, said) = match told {
        Told::Delivered { note } if note.is_empty() => (true, "told".to_owned()),
        Told::Delivered { note } => (true, format!("told, but {note}")),
        Told::Again { reason, .. } => (false, format!("not told, may work later: {reason}")),
        Told::Never { reason } => (false, format!("not told, will not work as it is: {reason}")),
        Told::Gone { reason } => (false, format!("not told, the receiver wants no more: {reason}")),
    };
    match format {
        OutputFormat::Json => {
            say!(
                "{}",
                json!({"route": name, "message_id": message.message_id, "told": arrived, "result": said})
            );
        }
        OutputFormat::Table => say!("{name}: {} (message {})", terminal::harmless(&said), message.message_id),
    }
    Ok(arrived)
}

/// Switches a route on.
async fn on(config: &Config, name: &str) -> anyhow::Result<bool> {
    named(config, name)?;
    let (databases, store) = open(config).await?;
    let was_off = store.switch_route(name, None).await?;
    databases.close().await;
    match was_off {
        true => say!("{name} is on"),
        false => eprintln!("{name} was not off"),
    }
    Ok(was_off)
}

/// Shows routes: those of the configuration, and those that are known from before.
async fn list(config: &Config, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let mut states = store.routes().await?;
    databases.close().await;
    for name in config.notify.routes.keys() {
        if !states.iter().any(|state| state.route == *name) {
            states.push(RouteState { route: name.clone(), ..RouteState::default() });
        }
    }
    states.sort_by(|a, b| a.route.cmp(&b.route));
    let kind = |state: &RouteState| config.notify.routes.get(&state.route).map(|route| route.to.kind());
    if format == OutputFormat::Json {
        for state in &states {
            let mut row = serde_json::to_value(state)?;
            row["kind"] = json!(kind(state));
            say!("{row}");
        }
        return Ok(true);
    }
    let mut table =
        terminal::table(&["route", "to", "state", "waiting", "told", "dead", "last told", "last error"]);
    for state in &states {
        let last_told = state.last_told_ms.and_then(|at| Timestamp::from_millisecond(at).ok());
        table.add_row(vec![
            terminal::harmless(&state.route),
            kind(state).unwrap_or("not configured").to_owned(),
            state
                .off
                .as_ref()
                .map_or("on".to_owned(), |reason| terminal::harmless(&format!("off: {reason}"))),
            state.waiting.to_string(),
            state.told.to_string(),
            state.dead.to_string(),
            last_told.map_or("–".to_owned(), |at| format!("{at:.0}")),
            terminal::harmless(state.last_error.as_deref().unwrap_or("–")),
        ]);
    }
    say!("{table}");
    Ok(true)
}
