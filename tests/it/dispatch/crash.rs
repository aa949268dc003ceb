//! K9 over HTTP: the process dies when the backend has answered and the rows are not marked. What came twice has the same ids, and
//! a build that sends under other ids is found.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use aftercheck::{
    database::sqlite::{Database, SqliteConfig},
    pipeline::dispatch,
    store::{Store, sqlite::SqliteStore},
};
use tokio_util::sync::CancellationToken;

use super::{backend::Backend, dispatcher};
use crate::store::records;

/// Where the process that dies finds its database, and its backend.
const FILE: &str = "AFTERCHECK_TEST_DISPATCH_FILE";
const URL: &str = "AFTERCHECK_TEST_DISPATCH_URL";
/// Calls whose scores are sent, and how many at a time.
const CALLS: usize = 40;
const BATCH: u32 = 8;

/// The database of the process that dies.
async fn open(file: &Path) -> (Database, Arc<dyn Store>) {
    let database = Database::open(&SqliteConfig { path: file.to_owned() }).await.unwrap();
    (database.clone(), Arc::new(SqliteStore::new(database)))
}

/// The process that dies: another run of this program, which is told where to deliver to.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests beside it"]
async fn the_process_that_dies() {
    let (Some(file), Ok(url)) = (std::env::var_os(FILE), std::env::var(URL)) else { return };
    let (database, store) = open(Path::new(&file)).await;
    dispatch::run(dispatcher(&store, &url, BATCH), CancellationToken::new(), true).await;
    database.close().await;
}

/// Runs the process until it has delivered everything, however often it dies at K9; gives the backend and how often it died.
async fn until_delivered(broken: Option<&str>) -> (Backend, usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let (database, store) = open(&file).await;
    store.record(&records(0..CALLS).await).await.unwrap();
    let backend = Backend::default();
    let url = backend.serve().await;
    let mut deaths = 0;
    for run in 0..10 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "dispatch::crash::the_process_that_dies", "--ignored"]);
        command.env(FILE, &file).env(URL, &url).stdout(Stdio::null()).stderr(Stdio::null());
        // At another batch each time; the last runs come to their end.
        if run < 4 {
            command.env("AFTERCHECK_CRASH", format!("K9:{}", 1 + run % 2));
        }
        command.envs(broken.map(|name| ("AFTERCHECK_BROKEN", name)));
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        deaths += usize::from(!status.success());
        let mut tx = database.write().await.unwrap();
        // The leases of who died run out.
        sqlx::query("UPDATE outbox SET due_ms = 0").execute(&mut *tx).await.unwrap();
        let open = "SELECT count(*) FROM outbox WHERE sink = 'one' AND delivered_ms IS NULL";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        if open == 0 {
            break;
        }
    }
    database.close().await;
    (backend, deaths)
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_what_was_answered_and_not_marked_comes_again_under_its_id() {
    let (backend, deaths) = until_delivered(None).await;
    assert!(deaths >= 2, "it died {deaths} times");
    let scores = backend.scores();
    assert_eq!((scores.len(), backend.ids()), (CALLS, CALLS), "each is there, and under one id");
    assert!(scores.values().any(|times| *times > 1), "nothing came twice: the kills prove nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_another_id_at_each_repeat_is_found() {
    let (backend, _) = until_delivered(Some("random_delivery_id")).await;
    assert_eq!(backend.scores().len(), CALLS);
    assert!(backend.ids() > CALLS, "the broken build is found: {} ids", backend.ids());
}
