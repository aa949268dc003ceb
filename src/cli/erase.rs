//! `aftercheck erase (--request ID | --user KEY | --tenant NAME)`

use clap::{Args, error::ErrorKind};

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    pipeline::retention::BATCH,
    service,
    store::{Erased, Store, Whose},
};

/// Arguments of `erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
Deletes calls with their evaluations, claims, scores, review items, deliveries, sealed copies, dead letters \
and history, whether they are reviewed and delivered or not. A call's ids stay, so that no redelivery brings it back; they go \
with `[retention] days`, counted from now. What stays in the ledger is that it was erased, and who revealed it.

Sinks that are configured are told to delete what they were sent, by the running service, as deliveries are made: again \
and again until they have. Of others it says how many evaluations each may have. Evaluations that were pruned are not \
known any more. What is still in a queue is not known yet: run this again when it is through. Dead letters that cannot be \
read belong to nobody: `aftercheck dead drop`. May be ended and started again at any time.

Examples:
  aftercheck erase --request order-4711 --tenant acme
  aftercheck erase --user u-4711 --dry-run
  aftercheck erase --tenant acme --yes")]
pub struct EraseArgs {
    /// One call, by its request id.
    #[arg(long, value_name = "ID", conflicts_with = "user")]
    request: Option<String>,
    /// All calls of a customer: the value of `[redaction] user_field` in their metadata.
    #[arg(long, value_name = "KEY")]
    user: Option<String>,
    /// Only of this tenant; without --request and --user: all of it, which needs --yes.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Count what would be erased, and erase nothing.
    #[arg(long)]
    dry_run: bool,
    /// Erase a whole tenant.
    #[arg(long)]
    yes: bool,
}

/// Erases batch by batch; false when there was nothing.
pub async fn run(config: &Config, args: EraseArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let redactor = service::redactor(config)?;
    // As calls have them after redaction.
    let id = |id: &String| redactor.identity(id).into_owned();
    let tenant_id = args.tenant.as_ref().map(id);
    let whose = match (&args.request, &args.user, tenant_id) {
        (Some(request), _, tenant_id) => Whose::Call { request_id: id(request), tenant_id },
        (None, Some(user), tenant_id) => Whose::User { user_key: id(user), tenant_id },
        (None, None, Some(tenant)) => Whose::Tenant(tenant),
        (None, None, None) => usage("name what to erase: --request, --user or --tenant"),
    };
    if matches!(whose, Whose::Tenant(_)) && !args.yes && !args.dry_run {
        usage("this erases all of a tenant: say --yes, or see with --dry-run what there is");
    }
    let (databases, store) = open(config).await?;
    let found = store.erasable(&whose).await?;
    let sinks: Vec<String> = config.sinks.keys().cloned().collect();
    let erased = if args.dry_run { found } else { erase(&*store, &whose, found.calls, &sinks).await? };
    databases.close().await;
    let none = erased == Erased::default();
    print(&erased, &sinks, args.dry_run, format)?;
    Ok(!none)
}

/// Ends with a message on how to use the command.
fn usage(message: &str) -> ! {
    clap::Error::raw(ErrorKind::MissingRequiredArgument, format!("{message}\n")).exit()
}

/// Erases until there is no more, and adds up what went.
async fn erase(store: &dyn Store, whose: &Whose, calls: u64, sinks: &[String]) -> anyhow::Result<Erased> {
    let bar = terminal::bar(Some(calls), "calls");
    let (mut sum, mut after) = (Erased::default(), None);
    loop {
        let batch = store.erase(whose, after.as_ref(), BATCH, sinks).await?;
        bar.inc(batch.calls);
        sum.calls += batch.calls;
        sum.evaluations += batch.evaluations;
        sum.dead_letters += batch.dead_letters;
        for (sink, made) in batch.delivered {
            *sum.delivered.entry(sink).or_default() += made;
        }
        if batch.reached.is_none() && batch.dead_letters == 0 {
            break;
        }
        after = batch.reached.or(after);
    }
    bar.finish_and_clear();
    Ok(sum)
}

/// Says what went, or would.
fn print(erased: &Erased, sinks: &[String], dry_run: bool, format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        say!("{}", serde_json::to_string(erased)?);
        return Ok(());
    }
    let done = if dry_run { "would be erased" } else { "erased" };
    let Erased { calls, evaluations, dead_letters, delivered, .. } = erased;
    say!("{done}: {calls} calls, {evaluations} evaluations, {dead_letters} dead letters");
    for (sink, made) in delivered {
        if let Some(route) = sink.strip_prefix("notify.") {
            let route = terminal::harmless(route);
            say!(
                "route {route} may have told ids of {made} of these evaluations: delete them where it leads"
            );
            continue;
        }
        let what = match (sinks.contains(sink), dry_run) {
            (true, true) => "it will be told to delete them",
            (true, false) => "it is told to delete them by the running service",
            (false, _) => "it is not configured, erase them there",
        };
        say!("sink {} may have been sent {made} of these evaluations: {what}", terminal::harmless(sink));
    }
    Ok(())
}
