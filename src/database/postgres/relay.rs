//! Small segments at once: a way to the Postgres server with `TCP_NODELAY`.
//!
//! The driver (sqlx 0.9) does not set that option and offers no way to. A statement of several segments, which every
//! group commit is, then waits for the server's delayed acknowledgement: 40 ms on Linux, each time. So the driver gets a
//! Unix socket of ours, and what it says there goes on over a TCP connection that has the option. TLS stays between the
//! driver and the server. The socket has a name in Linux's abstract namespace: no file, and gone with the process; only
//! this process is let in. Elsewhere than on Linux the driver connects by itself.

use std::{io, path::PathBuf, process, sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, copy_buf},
    net::{TcpStream, UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// How long connecting to the server may take; the driver's own limit is longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Pause before a server that refused a connection, because it starts again, is asked again; and after a connection of
/// the driver could not be taken: out of file descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// What is passed on at a time: half of a group of ordinary calls.
const BUFFER_BYTES: usize = 64 << 10;

/// A relay to one server; it ends with its last handle, and its connections with it.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Relay {
    /// The options that lead over a relay, and the relay. The options as they are, and no relay, where they lead to a
    /// Unix socket already, where there is no abstract namespace, and where the system allows no such socket: it is
    /// slower then, and no more.
    pub(super) fn lead(options: PgConnectOptions) -> (PgConnectOptions, Option<Self>) {
        let local = options.get_socket().is_some() || options.get_host().starts_with('/');
        if local || cfg!(not(target_os = "linux")) {
            return (options, None);
        }
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        // The first byte is what makes a name abstract; the driver adds the rest as it does to a folder.
        let folder = format!("\0aftercheck-{}", Uuid::now_v7());
        let listener = match UnixListener::bind(PathBuf::from(format!("{folder}/.s.PGSQL.{port}"))) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "no socket for a relay to postgres, commits take some 40 ms longer each");
                return (options, None);
            }
        };
        let task = tokio::spawn(listen(listener, host, port));
        (options.socket(folder), Some(Self { _task: Arc::new(AbortOnDropHandle::new(task)) }))
    }
}

/// Takes the driver's connections, each with a task of its own that ends with either side.
async fn listen(listener: UnixListener, host: String, port: u16) {
    let mut relayed = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((driver, _)) if is_ours(&driver) => {
                    let host = host.clone();
                    relayed.spawn(async move {
                        // The driver sees the end of its connection; the reason is only known here.
                        if let Err(error) = relay(driver, &host, port).await {
                            tracing::warn!(%error, host, port, "connection to postgres has ended");
                        }
                    });
                }
                Ok(_) => tracing::warn!("another process asked for a connection to postgres and got none"),
                Err(error) => {
                    tracing::warn!(%error, "relay to postgres cannot take a connection");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = relayed.join_next() => {}
        }
    }
}

/// Whether this process is at the other end: the name is known to every process of the machine.
fn is_ours(driver: &UnixStream) -> bool {
    let pid = driver.peer_cred().ok().and_then(|peer| peer.pid());
    pid.is_some_and(|pid| pid.unsigned_abs() == process::id())
}

/// Connects, and passes on what both sides say until one of them ends.
async fn relay(driver: UnixStream, host: &str, port: u16) -> io::Result<()> {
    let server = connect(host, port).await?;
    let (from_driver, to_driver) = driver.into_split();
    let (from_server, to_server) = server.into_split();
    // All that one side said has been passed on when its end is seen.
    tokio::select! {
        said = pass_on(from_driver, to_server) => said,
        said = pass_on(from_server, to_driver) => said,
    }
}

/// Passes on one direction, until its end.
async fn pass_on(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(BUFFER_BYTES, from), &mut to).await.map(drop)
}

/// A connection that sends small segments at once. Where nobody listens it asks again until its time is over, as the
/// driver does.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let connecting = async {
        loop {
            match TcpStream::connect((host, port)).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    };
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    let stream = timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(late)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn both_sides_are_heard_and_the_end_of_one_ends_the_other() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port).await.unwrap().nodelay().unwrap());
        drop(server.accept().await.unwrap());

        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        let (options, relay) = Relay::lead(options);
        let path = format!("{}/.s.PGSQL.{port}", options.get_socket().unwrap().display());
        let mut driver = UnixStream::connect(&path).await.unwrap();
        let (mut reached, _) = server.accept().await.unwrap();
        let long = vec![7; 3 * BUFFER_BYTES + 1];
        driver.write_all(&long).await.unwrap();
        let mut heard = vec![0; long.len()];
        reached.read_exact(&mut heard).await.unwrap();
        assert!(heard == long);
        reached.write_all(b"yes").await.unwrap();
        drop(reached);
        let mut answer = String::new();
        driver.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "yes");

        let driver = UnixStream::connect(&path).await.unwrap();
        let (mut reached, _) = server.accept().await.unwrap();
        drop(driver);
        assert_eq!(reached.read(&mut [0]).await.unwrap(), 0, "the server sees the end");
        drop(relay);
        let gone = async { while UnixStream::connect(&path).await.is_ok() {} };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_unix_socket_needs_no_relay() {
        let options = PgConnectOptions::new_without_pgpass().host("/var/run/postgresql");
        assert!(Relay::lead(options).1.is_none());
        let options = PgConnectOptions::new_without_pgpass().socket("/var/run/postgresql");
        assert!(Relay::lead(options).1.is_none());
    }
}
