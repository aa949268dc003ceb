//! What only a server can do to a store: end a connection, hold a lock, lose an answer, find a deadlock.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aftercheck::{
    database::{DatabaseError, postgres},
    store::{Recorded, Store, StoreError, accounts::Lasting, postgres::PostgresStore},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use super::{
    burial, call, delivered, groups,
    place::{Place, on_postgres, on_sqlite, server},
    record, records, reviewing,
};

/// What every record of these checks must have become, however often it was sent.
async fn written_once(place: &Place) {
    assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 1);
    assert_eq!(place.count("SELECT count(*) FROM claims").await, 3);
    assert_eq!(place.count("SELECT count(*) FROM outbox").await, 2);
    assert_eq!(place.count("SELECT count(*) FROM ledger").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_the_commit_costs_a_repeat() {
    on_postgres(|place| async move {
        // A sequence is not rolled back: the first commit ends its own session, the second is let through.
        place
            .sql(
                "CREATE SEQUENCE commits;
                 CREATE FUNCTION end_the_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
                     RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON evaluations
                     DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_the_first()",
            )
            .await;
        let record = record(&call("Yes."), "v1").await;
        assert_eq!(place.store.record(&[record]).await.unwrap(), [Recorded::New]);
        assert_eq!(place.count("SELECT last_value FROM commits").await, 2, "it was tried twice");
        written_once(&place).await;
    })
    .await;
}

/// Another worker on the same database, through a proxy that ends the connection instead of passing on an answer with
/// this command tag, as often as the counter says.
async fn losing(place: &Place, tag: &'static [u8]) -> (Place, Arc<AtomicUsize>) {
    let (head, database) = place.url().rsplit_once('/').unwrap();
    let losses = Arc::new(AtomicUsize::new(0));
    let proxy = proxy(head.rsplit_once('@').unwrap().1.to_owned(), tag, Arc::clone(&losses)).await;
    let through = format!("postgres://postgres@{proxy}/{database}?sslmode=disable");
    (place.another(|config| config.url = Some(through.into())).await, losses)
}

/// The proxy.
async fn proxy(upstream: String, tag: &'static [u8], losses: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            let losses = Arc::clone(&losses);
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let forth = tokio::spawn(async move {
                    drop(tokio::io::copy(&mut from_client, &mut to_server).await);
                });
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    let tagged = buffer[..read].windows(tag.len()).any(|window| window == tag);
                    let one_less = |left: usize| left.checked_sub(1);
                    if tagged && losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                        break;
                    }
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                forth.abort();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_settled_by_the_key() {
    on_postgres(|place| async move {
        let (worker, losses) = losing(&place, b"COMMIT\0").await;
        let record = record(&call("Yes."), "v1").await;
        losses.store(1, Ordering::SeqCst);
        // The first try was committed, which nobody told: the second finds the key.
        assert_eq!(worker.store.record(&[record]).await.unwrap(), [Recorded::AlreadyThere]);
        assert_eq!(losses.load(Ordering::SeqCst), 0, "an answer was lost");
        written_once(&place).await;
        worker.store.bury(&burial(aftercheck::domain::DeadClass::BadJson)).await.unwrap();
        let letter = worker.store.dead_letters(None, None, 10).await.unwrap().remove(0);
        losses.store(1, Ordering::SeqCst);
        let removed =
            worker.store.remove_dead_letter(letter.dead_letter_id, letter.created_ms, "dropped", "ana");
        assert!(removed.await.unwrap(), "the first try removed it, and this call is told so");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_counts_no_attempt_twice() {
    on_postgres(|place| async move {
        let (worker, losses) = losing(&place, b"INSERT 0 2\0").await;
        let digests = ["a", "b"].map(str::to_owned);
        losses.store(1, Ordering::SeqCst);
        let counting = Uuid::now_v7();
        assert_eq!(worker.store.count_attempts(&digests, counting).await.unwrap(), [1, 1]);
        assert_eq!(
            worker.store.count_attempts(&digests, counting).await.unwrap(),
            [1, 1],
            "a repeat from outside"
        );
        assert_eq!(losses.load(Ordering::SeqCst), 0, "an answer was lost, and the rows were there");
        assert_eq!(worker.store.count_attempts(&digests, Uuid::now_v7()).await.unwrap(), [2, 2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_is_not_waited_for_without_end() {
    on_postgres(|place| async move {
        let mut holder = PgConnection::connect(place.url()).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE evaluations IN ACCESS EXCLUSIVE MODE")
            .execute(&mut holder)
            .await
            .unwrap();
        let worker = place.another(|config| config.lock_timeout_secs = 1).await;
        let record = record(&call("Yes."), "v1").await;
        let error = worker.store.record(std::slice::from_ref(&record)).await.unwrap_err();
        let StoreError::Unavailable(sqlx::Error::Database(inner)) = &error else { panic!("{error:?}") };
        assert_eq!(inner.code().as_deref(), Some("55P03"), "{error:?}");
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
        assert_eq!(
            worker.store.record(&[record]).await.unwrap(),
            [Recorded::New],
            "it works again by itself"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_a_free_connection_says_so_in_time() {
    on_postgres(|place| async move {
        let url = place.url().to_owned();
        let config = postgres::PostgresConfig { url: Some(url.into()), connections: 2, ..Default::default() };
        let database = postgres::Database::open(&config).await.unwrap();
        let held = [database.connection().await.unwrap(), database.connection().await.unwrap()];
        let begun = Instant::now();
        let error = database.connection().await.err().unwrap();
        assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error:?}");
        assert!(begun.elapsed() > Duration::from_secs(5), "it waited for one");
        // Thrown away, as after an error: their places are free.
        drop(held);
        database.connection().await.unwrap().give_back();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_groups_find_no_deadlock() {
    on_postgres(|place| async move {
        // Rows come slowly, so that two workers are in the middle of theirs at the same time.
        place
            .sql(
                "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     PERFORM pg_sleep(0.002); RETURN NEW; END $$;
                 CREATE TRIGGER slow BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION slowly();
                 CREATE TRIGGER slow BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION slowly()",
            )
            .await;
        let worker = place.another(|_| {}).await;
        groups::overlapping(&worker, 4).await;
        worker.close().await;
        // Counters of a session are there when it has ended.
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(place.count(deadlocks).await, 0, "the order of the keys is the order of the locks");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_and_a_worker_with_the_same_call_both_end() {
    on_postgres(|place| async move {
        let group = records(0..20).await;
        for round in 0..10 {
            place.store.record(&group).await.unwrap();
            place.sql("UPDATE review_items SET state = 'closed'; UPDATE outbox SET delivered_ms = 1").await;
            let (worker, version) = (Arc::clone(&place.store), format!("w{round}"));
            let again: Vec<_> = group.iter().map(|record| under(record.clone(), &version)).collect();
            let recording = tokio::spawn(async move { worker.record(&again).await.unwrap() });
            while place.store.prune(0..i64::MAX, 7).await.unwrap().reached_ms.is_some() {}
            assert_eq!(recording.await.unwrap(), [Recorded::New; 20]);
            let orphans = "SELECT count(*) FROM evaluations e WHERE NOT EXISTS (SELECT 1 FROM calls c
                 WHERE c.tenant_id = e.tenant_id AND c.request_id = e.request_id)";
            assert_eq!(place.count(orphans).await, 0);
        }
    })
    .await;
}

/// A record under another evaluator version.
fn under(mut record: aftercheck::store::Record, version: &str) -> aftercheck::store::Record {
    record.evaluation.evaluator_version = version.to_owned();
    let call = serde_json::from_str(&record.kept.body).unwrap();
    record.evaluation.evaluation_id = aftercheck::store::evaluation_id(&call, version);
    record
}

/// Takes times out of a report: two stores never have the same.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for time in ["at_ms", "created_ms", "delivered_ms"] {
                fields.remove(time);
            }
            fields.values_mut().for_each(timeless);
        }
        Value::Array(items) => items.iter_mut().for_each(timeless),
        _ => {}
    }
}

/// What a store reports after the same has happened to each.
async fn reported(place: &Place) -> Value {
    let store = &place.store;
    let mut group = records(0..40).await;
    for (place, record) in group.iter_mut().enumerate() {
        let number = place as f64;
        record.evaluation.faithfulness = (place % 3 > 0).then_some((number % 7.0) / 7.0);
        record.evaluation.tokens_cut = u64::MAX - place as u64;
        record.evaluation.evaluated_at = "2026-11-02T10:00:00Z".parse().unwrap();
        record.evaluation.claims.truncate(place % 4);
        for stage in &mut record.evaluation.stages {
            // Sums of powers of two are exact in any order.
            stage.ms = f64::exp2(number) * if place % 2 == 0 { 1.0 } else { 1048576.0 };
        }
    }
    store.record(&group[..30]).await.unwrap();
    for record in &group[25..] {
        store.record(std::slice::from_ref(record)).await.unwrap();
    }
    store.bury(&burial(aftercheck::domain::DeadClass::BadJson)).await.unwrap();
    let due = store.due("one", 7, 60_000).await.unwrap();
    store
        .delivered(&due.iter().map(|row| delivered(row.delivery_id)).collect::<Vec<_>>()[..3])
        .await
        .unwrap();
    store.enter(Some("acme"), "kill-1", "retried", "attempt 1").await.unwrap();
    place.sql("UPDATE outbox SET attempts = 0, delivered_ms = NULL WHERE sink = 'two'").await;
    place
        .sql("UPDATE outbox SET delivered_ms = NULL, attempts = 1, dead_reason = 'x' WHERE attempts > 0")
        .await;
    // Which rows were due first is chance: those that went are counted, and all look alike.
    let mut report = serde_json::to_value(store.report(0, 10).await.unwrap()).unwrap();
    assert_eq!(report["deliveries"]["one"]["dead"], 3);
    place.sql("UPDATE outbox SET attempts = 0, dead_reason = NULL").await;
    report["worst"] = serde_json::to_value(store.report(0, 10).await.unwrap().worst).unwrap();
    timeless(&mut report);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_report_the_same() {
    let reports: Arc<tokio::sync::Mutex<Vec<Value>>> = Arc::default();
    let keep = |place: Place| {
        let reports = Arc::clone(&reports);
        async move {
            let report = reported(&place).await;
            reports.lock().await.push(report);
        }
    };
    on_sqlite(keep).await;
    on_postgres(keep).await;
    let reports = reports.lock().await;
    let Some(postgres) = reports.get(1) else { return };
    assert!(reports[0]["worst"].as_array().unwrap().len() == 10 && !reports[0]["stages"].is_null());
    assert_eq!(reports[0], *postgres);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_are_sorted_by_whether_they_pass() {
    let Some(server) = server() else { return };
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let passing = [
        "08006", "28P01", "3D000", "40001", "40P01", "42501", "53300", "55P03", "57014", "57P01", "58030",
        "25006", "23503",
    ];
    let lasting = ["22021", "22P05", "23505", "23514", "23502", "42P01", "42703", "54000", "0A000"];
    for code in passing.into_iter().chain(lasting) {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
        let error = sqlx::raw_sql(AssertSqlSafe(raise)).execute(&mut connection).await.unwrap_err();
        let unavailable = matches!(StoreError::from(error), StoreError::Unavailable(_));
        assert_eq!(unavailable, passing.contains(&code), "{code}");
    }
    sqlx::raw_sql("SET statement_timeout = 50").execute(&mut connection).await.unwrap();
    let late = sqlx::raw_sql("SELECT pg_sleep(60)").execute(&mut connection).await.unwrap_err();
    assert!(matches!(StoreError::from(late), StoreError::Unavailable(_)));
    for error in [sqlx::Error::PoolTimedOut, sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())] {
        assert!(matches!(StoreError::from(error), StoreError::Unavailable(_)));
    }
    assert!(matches!(StoreError::from(sqlx::Error::RowNotFound), StoreError::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_about_a_server_holds_its_password() {
    let Some(server) = server() else { return };
    let (scheme, rest) = server.split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret-too\n").unwrap();
    let with = |database: &str, password_file| postgres::PostgresConfig {
        url: Some(
            format!("{scheme}://postgres:s3cret@{}/{database}", place.split('/').next().unwrap()).into(),
        ),
        password_file,
        ..Default::default()
    };
    let good = with("postgres", Some(file));
    let mut told = vec![format!("{good:?} {}", serde_json::to_string(&good).unwrap())];
    told.push(format!("{:?}", good.place()));
    let refused = postgres::Database::open(&with("not-there", None)).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Postgres { .. }), "{refused:?}");
    told.push(format!("{refused} {refused:?}"));
    told.push(format!("{:#}", anyhow::Error::from(refused)));
    let mut unusable = good.clone();
    unusable.url = Some("postgres://a:s3cret@h:port/d".into());
    let error = postgres::Database::open(&unusable).await.unwrap_err();
    told.push(format!("{error} {error:?}"));
    on_postgres(|place| async move {
        let url = place.url().replacen("postgres@", "postgres:s3cret@", 1);
        let config = postgres::PostgresConfig { url: Some(url.into()), ..Default::default() };
        let database = postgres::Database::open(&config).await.unwrap();
        let told = format!("{database:?} {:?} {}", database.pool(), database.place());
        assert!(!told.contains("s3cret"), "{told}");
    })
    .await;
    for told in told {
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_is_read_again() {
    use crate::matrix::servers::Postgres as Server;
    use sqlx::Executor as _;

    let started = tokio::task::spawn_blocking(|| {
        let server = Server::start()?;
        server.login_rule("host all worker 127.0.0.1/32 scram-sha-256");
        Some(server)
    });
    let Some(server) = started.await.unwrap() else { return };
    let mut admin = PgConnection::connect(&Server::url(server.port)).await.unwrap();
    admin.execute("CREATE ROLE worker LOGIN SUPERUSER PASSWORD 'first'").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let config = postgres::PostgresConfig {
        url: Some(format!("postgres://worker@127.0.0.1:{}/postgres", server.port).into()),
        password_file: Some(file.clone()),
        ..Default::default()
    };
    let database = postgres::Database::open(&config).await.unwrap();
    database.connection().await.unwrap().give_back();
    // An operator changes the password, and whoever is logged in has to come again.
    admin.execute("ALTER ROLE worker PASSWORD 'second'").await.unwrap();
    admin
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'")
        .await
        .unwrap();
    let store = PostgresStore::new(database.clone());
    let error = store.outbox_open().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "it is mended without us: {error}");
    std::fs::write(&file, "second\n").unwrap();
    assert_eq!(store.outbox_open().await.unwrap(), 0);
    // Who listens has a connection of its own, and hears of it without a refused login.
    admin.execute("ALTER ROLE worker PASSWORD 'third'").await.unwrap();
    std::fs::write(&file, "third\n").unwrap();
    PgConnection::connect_with(&database.options_now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_tls_in_the_url_is_kept() {
    let Some(server) = server() else { return };
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let offers: String = sqlx::query_scalar("SHOW ssl").fetch_one(&mut admin).await.unwrap();
    if offers != "on" {
        return println!("skipped: the server has no TLS");
    }
    on_postgres(|place| async move {
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        for (mode, ssl) in [("require", true), ("prefer", true), ("disable", false)] {
            let url = format!("{}?sslmode={mode}", place.url());
            let config = postgres::PostgresConfig { url: Some(url.into()), ..Default::default() };
            let database = postgres::Database::open(&config).await.unwrap();
            let is: bool = sqlx::query_scalar(encrypted).fetch_one(database.pool()).await.unwrap();
            assert_eq!(is, ssl, "{mode}");
        }
        // The certificate of a server that is set up for tests is signed by nobody that this machine trusts.
        let url = format!("{}?sslmode=verify-full", place.url());
        let config = postgres::PostgresConfig { url: Some(url.into()), ..Default::default() };
        assert!(matches!(postgres::Database::open(&config).await, Err(DatabaseError::Postgres { .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_and_being_refused_throws_no_connection_away() {
    on_postgres(|place| async move {
        let store = &place.store;
        // As many as the pool may have, so that it opens no more.
        let open = || place.count("SELECT 1::bigint FROM pg_sleep(0.5)");
        assert_eq!(tokio::join!(open(), open(), open(), open()), (1, 1, 1, 1));
        let newest = "SELECT max(extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity
             WHERE datname = current_database()";
        let before = place.count(newest).await;
        let lasting = Lasting { whole_ms: 1, idle_ms: 1 };
        for _ in 0..10 {
            store.account("nobody").await.unwrap();
            store.session("nothing", lasting, 1).await.unwrap();
            store.use_key("nothing", 1).await.unwrap();
            store.audit_log(None, 1).await.unwrap();
            store.accounts().await.unwrap();
            store.keys().await.unwrap();
            assert_eq!(store.next_review(&reviewing::asking("ana")).await.unwrap(), None);
            store.take_back(&reviewing::taking("ana")).await.unwrap().unwrap_err();
            assert!(!store.unshelve(Uuid::nil(), "ana").await.unwrap());
        }
        assert_eq!(place.count(newest).await, before, "all are as old as before");
        // What was rolled back is over: a connection that is given back begins anew.
        store.record(&records(1..2).await).await.unwrap();
        assert_eq!(place.count("SELECT count(*) FROM evaluations").await, 1);
    })
    .await;
}
