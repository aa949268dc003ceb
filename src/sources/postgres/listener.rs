//! Hears of new messages, so that an empty queue need not be looked at all the time. Only a wake-up is lost with it: the
//! queue is looked at every now and then all the same.

use std::{convert::Infallible, io::ErrorKind, sync::Arc, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::database::postgres::Database;

/// Where publishers say that something is new.
pub(super) const CHANNEL: &str = "aftercheck_queue";

/// How long connecting, and later a sign of life, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the server is asked for a sign of life: a connection that is cut off stays silent for ever.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
/// Pause before a lost connection is built anew.
const PAUSE: Duration = Duration::from_secs(5);

/// Wakes whoever waits for messages; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    woken: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Starts to listen, on a connection of its own. What can go wrong goes on in the background.
    pub fn start(database: Database) -> Self {
        let woken = Arc::new(Notify::new());
        let task = tokio::spawn(listen(database, Arc::clone(&woken)));
        Self { woken, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits for word of something new. Word that came since the last wait ends this one at once.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

/// Listens for ever, building a lost connection anew: with the password of then.
async fn listen(database: Database, woken: Arc<Notify>) {
    loop {
        let Err(error) = follow(database.options_now(), &woken).await;
        tracing::warn!(%error, "wake-ups of the queue are lost until they are heard again, looking for itself meanwhile");
        sleep(PAUSE).await;
    }
}

/// Listens on one connection until it is lost.
async fn follow(options: PgConnectOptions, woken: &Notify) -> Result<Infallible, sqlx::Error> {
    // A pool of its own: the connection is held all the time, and one that hangs takes no other's place.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options);
    let mut listener = in_time(PgListener::connect_with(&pool)).await?;
    listener.eager_reconnect(false);
    in_time(listener.listen(CHANNEL)).await?;
    // What came before this connection listened has left no word.
    woken.notify_one();
    loop {
        match timeout(PROBE_INTERVAL, listener.try_recv()).await {
            Ok(Ok(Some(_))) => woken.notify_one(),
            Ok(Ok(None)) => return Err(sqlx::Error::Io(ErrorKind::ConnectionReset.into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                in_time(sqlx::query("SELECT 1").execute(&mut listener)).await?;
            }
        }
    }
}

/// One answer of the server, or an error when it does not come.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
