//! Builds the parts that the configuration names, and runs them together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::Gate,
    config::Config,
    database::{DatabaseError, DatabaseKind, Databases},
    domain::Golden,
    evaluators::{
        nli::calibration::{CALIBRATION_FILE, Calibration, Scale, evidence_digest},
        rules::Rules,
    },
    golden::Shelf,
    http::{self, Doors, Health, House, Served},
    inference::Batcher,
    metrics,
    pipeline::{
        self, Pipeline, Pulse,
        cascade::Cascade,
        dead_letters::DeadLetterOffice,
        decide::CascadeConfig,
        dispatch::{self, Dispatcher},
        ingest::Ingest,
        judging::Judges,
        keep::Keeper,
        notify::{
            Promoted, Routes, deliver,
            watch::{self, Watch},
        },
        priority::Priorities,
        retention,
        scan::Scanner,
    },
    redaction::{RedactionError, Redactor},
    sinks::{self, SinkConfig},
    sources,
    store::{self, JudgeLimits, Store, reviewing::Scope},
};

/// How often a service asks whether a scan is due.
const SCAN_INTERVAL: Duration = Duration::from_secs(3600);
/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;

/// Loads rules and, when it is on, the model.
///
/// # Errors
/// When a pack or the model cannot be used; the message names file and remedy.
pub fn cascade(config: &Config) -> anyhow::Result<Cascade> {
    let rules = rules(config)?;
    if let Some(wrong) = rules.check_examples().into_iter().find(|example| !example.ok) {
        // A rule that misjudges its own examples would misjudge calls: as a model fails that misses its golden pairs.
        anyhow::bail!("rule {} fails its own examples; `aftercheck validate` shows which", wrong.rule);
    }
    let model = match config.inference.enabled {
        true => {
            let (batcher, folder) = Batcher::start(&config.inference)?;
            Some((batcher, folder.digest))
        }
        false => None,
    };
    let scale = scale(config, model.as_ref().map(|(_, digest)| digest.as_str()))?;
    let redaction = redactor(config)?.digest();
    let (tenant_weights, second_share) = (config.review.tenant_weights.clone(), config.review.second_share);
    let cascade = Cascade::new(rules, model, config.nli, scale, config.cascade.audit_rate).after(&redaction);
    Ok(cascade.with_priorities(Priorities { tenant_weights, second_share }))
}

/// The redactor that every call goes through.
///
/// # Errors
/// When the policy cannot be used; the message names the key and the remedy.
pub fn redactor(config: &Config) -> Result<Arc<Redactor>, RedactionError> {
    Redactor::new(&config.redaction).map(Arc::new)
}

/// The golden set in this store, in nobody's hands yet: who it is, and what they may see, is for the caller to say.
///
/// # Errors
/// When the policy of redaction or the address of our pages cannot be used.
pub fn shelf(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Shelf> {
    let redactor = redactor(config)?;
    let routes = Routes::new(&config.notify, config.http.pages()?, &redactor);
    let announce = move |golden: &Golden, evaluation_id| {
        let Golden { golden_id, dataset, tenant_id, request_id, feature, .. } = golden;
        let (golden_id, at) = (*golden_id, Timestamp::now());
        let mut notices =
            routes.gold_promoted(&Promoted { golden_id, dataset, tenant_id, request_id, feature, at });
        // Erased with the call.
        notices.iter_mut().for_each(|one| one.notice.evaluation_id = Some(evaluation_id));
        notices
    };
    Ok(Shelf {
        store,
        redactor,
        sinks: config.sinks.keys().cloned().collect(),
        announce: Arc::new(announce),
        by: String::new(),
        scope: Scope { tenants: Some(Vec::new()), features: None },
    })
}

/// The scale on which a model with this digest is read: the calibration that is configured, or that lies beside it.
///
/// # Errors
/// When the calibration cannot be used, or leaves no band between the thresholds that are configured.
pub fn scale(config: &Config, model_digest: Option<&str>) -> anyhow::Result<Scale> {
    let CascadeConfig { lo, hi, calibrated, calibration, .. } = &config.cascade;
    let beside = config.inference.model.join(CALIBRATION_FILE);
    let there = beside.try_exists().with_context(|| beside.display().to_string())?;
    let path = calibration.clone().or_else(|| there.then_some(beside)).filter(|_| *calibrated);
    let read = match (path, model_digest) {
        (Some(path), Some(digest)) => Some(Calibration::read(&path, &evidence_digest(digest, &config.nli))?),
        _ => None,
    };
    let scale = Scale::new(read, *lo, *hi);
    if let Some(feature) = scale.without_band() {
        anyhow::bail!("[cascade] lo and hi leave no band for feature {feature}: set both, lo below hi");
    }
    Ok(scale)
}

/// Loads the rule packs.
///
/// # Errors
/// When a pack cannot be read; the message names file, rule and remedy.
pub fn rules(config: &Config) -> anyhow::Result<Rules> {
    Ok(match &config.rules.folder {
        Some(folder) => Rules::load(folder)?,
        None => Rules::shipped()?,
    })
}

/// Opens the databases that queue and store live in.
///
/// # Errors
/// When one cannot be opened or brought up to date.
pub async fn databases(config: &Config) -> Result<Databases, DatabaseError> {
    let sqlite = config.needs(DatabaseKind::Sqlite).then_some(&config.sqlite);
    let postgres = config.needs(DatabaseKind::Postgres).then_some(&config.postgres);
    Databases::open(sqlite, postgres).await
}

/// How long deliveries, and then the database, may take to end after the workers have. The two seconds of HTTP,
/// the default `grace_secs` and what the queue takes come to 45 seconds at most, but for a hung disk; see deploy/.
const END_GRACE: Duration = Duration::from_secs(1);

/// How a service run is shown and ended.
pub struct Run {
    /// Ends the run.
    pub shutdown: CancellationToken,
    /// End when the queue is empty and what is due is delivered.
    pub drain: bool,
    /// Signs of life, shared with whoever shows progress.
    pub pulse: Arc<Pulse>,
}

/// What a run has done.
pub struct Ended {
    /// Deliveries of the queue that were settled.
    pub settled: u64,
    /// Outbox rows that are neither delivered nor given up, after a drain; 0 otherwise.
    pub undelivered: u64,
}

/// Says what pseudonyms without a key are worth.
fn warn_without_key(config: &Config) {
    if config.redaction.key_file.is_none() {
        let remedy = "make one with `openssl rand -hex 32`";
        tracing::warn!(
            remedy,
            "[redaction] key_file is not set: who guesses a personal id knows its pseudonym"
        );
    }
}

/// Runs workers, dispatchers and HTTP until shutdown, or until drained.
///
/// # Errors
/// When a part cannot be built or the address is taken. Everything is checked before the first call is taken.
pub async fn run(config: &Config, run: Run) -> anyhow::Result<Ended> {
    let prometheus = metrics::install().context("metrics")?;
    let (redactor, cascade) = (redactor(config)?, cascade(config)?);
    warn_without_key(config);
    let keeper = Keeper::new(&config.retention).context("[retention.sealed]")?.into();
    let databases = databases(config).await?;
    let store = store::build(&config.store, &databases)?;
    let cascade =
        cascade.with_judges(Judges::new(&config.judge, config.pipeline.in_flight, Arc::clone(&store))?);
    let source = sources::source(&config.source, &databases, config.pipeline.limits())?;
    let routes = Arc::new(Routes::new(&config.notify, config.http.pages()?, &redactor));
    let Run { shutdown, drain, pulse } = run;
    let stall = Duration::from_secs(config.http.stall_secs);
    if let Some(model) = cascade.model() {
        pulse.listen_to(model.clone());
    }
    pipeline::watch(&pulse, stall * 2).context("watchdog")?;
    // HTTP ends after the workers: what happens while the process stops can be seen.
    let (close, dispatchers, dispatching) =
        (CancellationToken::new(), TaskTracker::new(), shutdown.child_token());
    let mut server = None;
    if !drain {
        let health = Health { pulse: Arc::clone(&pulse), prometheus, shutdown: shutdown.clone(), stall };
        let served = served(config, health, (&store, &redactor), &databases)?;
        tracing::info!(evaluator_version = cascade.version(), "starting");
        server = Some(listen(config, served, close.clone()).await?);
    }
    start_deliveries(config, (&store, &redactor, &routes), &dispatching, &dispatchers, false)?;
    let pipeline = Pipeline {
        redactor: Arc::clone(&redactor),
        cascade,
        keeper,
        store: Arc::clone(&store),
        sinks: config.sinks.keys().cloned().collect(),
        routes: Arc::clone(&routes),
        config: config.pipeline,
        pulse,
    };
    if !drain {
        start_upkeep(config, (&store, &routes), &dispatching, &dispatchers);
    }
    let settled = pipeline::run(pipeline, source, shutdown.clone(), drain).await;
    if drain {
        // Those that go on for ever end, and others deliver what the last verdicts left.
        dispatching.cancel();
        start_deliveries(config, (&store, &redactor, &routes), &shutdown, &dispatchers, true)?;
    }
    dispatchers.close();
    tokio::select! {
        () = dispatchers.wait() => {}
        // A delivery that is cut off here is made again: its outbox row is not marked.
        () = async { shutdown.cancelled().await; sleep(END_GRACE).await } => {}
    }
    close.cancel();
    if let Some(server) = server {
        server.await.context("http")?.context("http")?;
    }
    let undelivered = if drain { drained(config, &*store, &shutdown).await? } else { 0 };
    close_databases(&databases).await;
    tracing::info!(settled, "stopped");
    Ok(Ended { settled, undelivered })
}

/// Closes the databases, in a moment or not at all.
async fn close_databases(databases: &Databases) {
    if timeout(END_GRACE, databases.close()).await.is_err() {
        tracing::warn!("the database did not close in time, its log is taken up at the next start");
    }
}

/// What a drain ends with: what has expired goes, because who never runs but to drain would keep it for ever. Says how many
/// deliveries are open.
async fn drained(config: &Config, store: &dyn Store, shutdown: &CancellationToken) -> anyhow::Result<u64> {
    tokio::select! {
        // A signal may come because the store is down: it is asked for no more than the count then.
        () = shutdown.cancelled() => {}
        expired = retention::expire(&config.retention, store) => if let Err(error) = expired {
            tracing::error!(%error, "what has expired could not be deleted, the next run tries again");
        }
    }
    let waiting = store.deferred_calls().await.context("deferred calls cannot be counted")?;
    if waiting > 0 {
        tracing::warn!(waiting, "calls wait for a judge; a service that runs judges them");
    }
    let routes: Vec<String> = config.notify.routes.keys().cloned().collect();
    let untold = store.notices_open(&routes).await.context("open notices cannot be counted")?;
    if untold > 0 {
        tracing::warn!(untold, "notices wait for their routes; a service that runs tells them");
    }
    store.outbox_open().await.context("open deliveries cannot be counted")
}

/// Files that jsonl sinks write to.
pub fn sink_files(config: &Config) -> impl Iterator<Item = PathBuf> {
    config.sinks.values().filter_map(SinkConfig::file).filter(|path| path.exists()).map(Path::to_owned)
}

/// Searches the store, then files.
///
/// # Errors
/// When something cannot be read; the message names it.
pub async fn scan(scanner: &mut Scanner<'_>, store: &dyn Store, files: &[PathBuf]) -> anyhow::Result<()> {
    scanner.store(store).await.context("store")?;
    for path in files {
        // A file takes as long as it takes: other tasks must not wait for it.
        tokio::task::block_in_place(|| scanner.file(path)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Scans what is kept each `scan_hours`, until the service stops. The store knows when it is due: workers that are restarted
/// each day come to it, and of many one does it.
async fn keep_scanning(config: Config, store: Arc<dyn Store>, stop: CancellationToken) {
    if config.redaction.scan_hours == 0 {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            scanned = scan_in_turn(&config, &*store) => if let Err(error) = scanned {
                tracing::error!(error = format!("{error:#}"), "scan did not come to its end, trying again within a day");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(SCAN_INTERVAL) => {}
        }
    }
}

/// Scans where it is due, and shows what the last scan found, whoever made it.
async fn scan_in_turn(config: &Config, store: &dyn Store) -> anyhow::Result<()> {
    let next_ms = i64::try_from(config.redaction.scan_hours)?.saturating_mul(HOUR_MS);
    let turn = store.take_scan(next_ms.min(retention::DAY_MS)).await.context("whose turn it is")?;
    if !turn.is_ours {
        metrics::scanned(turn.found);
        return Ok(());
    }
    let mut scanner = Scanner::new(&config.redaction.canaries);
    let files: Vec<PathBuf> = sink_files(config).collect();
    scan(&mut scanner, store, &files).await?;
    let scanned = scanner.finish();
    let kept = store.end_scan(scanned.found, next_ms).await;
    metrics::scanned(scanned.found);
    match scanned.hits.first() {
        Some(hit) => tracing::error!(
            found = scanned.found,
            place = hit.place,
            key = hit.key,
            kind = hit.kind,
            "scan found what should have been redacted; `aftercheck scan` tells where"
        ),
        None => tracing::info!(texts = scanned.texts, "scan found nothing"),
    }
    kept.context("what it found")
}

/// What is served: health, calls in, and pages behind the doors.
fn served(
    config: &Config,
    health: Health,
    (store, redactor): (&Arc<dyn Store>, &Arc<Redactor>),
    databases: &Databases,
) -> anyhow::Result<Served> {
    let publisher = sources::publisher(&config.source, databases)?;
    let ingest = Arc::new(Ingest::new(Arc::clone(redactor), Arc::clone(&publisher)));
    let gate = Arc::new(Gate::new(Arc::clone(store)));
    let house = House {
        store: Arc::clone(store),
        gate: Arc::clone(&gate),
        ingest,
        shelf: shelf(config, Arc::clone(store))?,
        office: DeadLetterOffice {
            store: Arc::clone(store),
            publisher: Some(publisher),
            by: String::new(),
            scope: Scope { tenants: Some(Vec::new()), features: Some(Vec::new()) },
        },
        review: config.review.clone(),
        sinks: config.sinks.keys().cloned().collect(),
        glances: Arc::default(),
        listing: Arc::default(),
        exporting: Arc::default(),
    };
    Ok(Served { health, doors: Doors::new(&config.http, gate), house })
}

/// Takes the address and serves on it.
async fn listen(
    config: &Config,
    served: Served,
    close: CancellationToken,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("[http] listen {}: choose a free port", config.http.listen))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, pages = format!("http://{address}/"), "ready");
    Ok(tokio::spawn(http::serve(listener, served, close)))
}

/// Starts what keeps the store as the policy wants it, and, where there is somebody to tell, what looks at the service itself.
fn start_upkeep(
    config: &Config,
    (store, routes): (&Arc<dyn Store>, &Arc<Routes>),
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    tasks.spawn(keep_scanning(config.clone(), Arc::clone(store), stop.clone()));
    tasks.spawn(retention::keep_pruning(config.retention.clone(), Arc::clone(store), stop.clone()));
    let sinks = config.sinks.keys().cloned().collect();
    tasks.spawn(dispatch::keep_showing(Arc::clone(store), sinks, stop.clone()));
    if config.notify.routes.is_empty() {
        return;
    }
    let watch = Watch {
        store: Arc::clone(store),
        routes: Arc::clone(routes),
        config: config.notify.watch,
        sinks: config.sinks.keys().cloned().collect(),
        limits: if config.judge.enabled { config.judge.budget.limits() } else { JudgeLimits::default() },
    };
    tasks.spawn(watch::run(watch, stop.clone()));
}

/// Starts one dispatcher per sink, and who tells the notices of each route.
fn start_deliveries(
    config: &Config,
    (store, redactor, routes): (&Arc<dyn Store>, &Arc<Redactor>, &Arc<Routes>),
    stop: &CancellationToken,
    tasks: &TaskTracker,
    drain: bool,
) -> anyhow::Result<()> {
    let couriers = deliver::couriers(&config.notify, store, routes).map_err(anyhow::Error::msg)?;
    let pages = config.http.pages()?;
    for (name, sink) in sinks::build(&config.sinks)? {
        let dispatcher = Dispatcher {
            quotes: config.sinks.get(&name).is_some_and(SinkConfig::quotes),
            name,
            sink,
            pages: pages.clone(),
            config: config.delivery,
            store: Arc::clone(store),
            redactor: Arc::clone(redactor),
        };
        tasks.spawn(dispatch::run(dispatcher, stop.clone(), drain));
    }
    for courier in couriers {
        tasks.spawn(deliver::run(courier, stop.clone(), drain));
    }
    Ok(())
}
