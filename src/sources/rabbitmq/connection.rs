//! One connection to the broker: how it is opened, how it is ended for certain, and what its failures mean.
//!
//! The client recovers nothing by itself here. Its recovery gives up silently after some minutes, and leaves consumers
//! that neither deliver nor fail. Whoever uses a connection drops it at the first failure and opens another.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind, runtime,
    tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri, SASLMechanism},
};
use tokio::{fs, time::timeout};

use super::RabbitmqConfig;
use crate::sources::SourceError;

/// How long opening a connection may take, its channels and queues included. Within what a look at the queue and a
/// request over HTTP may take.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(8);
/// How long one question may take; within what the pipeline waits for the depth.
pub(super) const ASK_DEADLINE: Duration = Duration::from_secs(4);
/// How long closing may take; within what the pipeline waits for it.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// "Closed as it should be", as the protocol says it.
pub(super) const SUCCESS: u16 = 200;

/// Where the broker is and how it is spoken to. Holds the password of the URL, so it has no `Debug`.
pub(super) struct Address {
    uri: AMQPUri,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// Host, port and virtual host, for messages.
    place: String,
}

impl Address {
    /// Takes the URL apart and looks at the files.
    pub(super) fn new(url: &str, config: &RabbitmqConfig) -> Result<Self, String> {
        // The parser's own words may repeat the URL, password and all.
        let mut uri: AMQPUri = url.parse().map_err(|_| "url: need amqp://user@host:5672/vhost".to_owned())?;
        let authority = authority(url);
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if let Some((literal, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            // The parser takes an IPv6 address for localhost.
            literal.clone_into(&mut uri.authority.host);
        }
        let password = user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
        let external = uri.query.auth_mechanism == Some(SASLMechanism::External);
        if !user.is_empty() && !password && config.password_file.is_none() && !external {
            return Err(
                "url: names a user without a password: put it into password_file, or set the whole url \
                        in the environment (AFTERCHECK__SOURCE__RABBITMQ__URL)"
                    .into(),
            );
        }
        if uri.vhost.is_empty() {
            // What `amqp://host/` says; nobody's virtual host has no name.
            "/".clone_into(&mut uri.vhost);
        }
        let readable = |key: &str, file: &Option<PathBuf>| match file {
            Some(file) => std::fs::read(file).map(drop).map_err(|error| unreadable(key, file, &error)),
            None => Ok(()),
        };
        readable("password_file", &config.password_file)?;
        readable("ca_file", &config.ca_file)?;
        if config.ca_file.is_some() && uri.scheme == AMQPScheme::AMQP {
            return Err("ca_file: only means something with an amqps:// url".into());
        }
        uri.query.heartbeat = Some(config.heartbeat_secs);
        let place = format!("{}:{}, virtual host {}", uri.authority.host, uri.authority.port, uri.vhost);
        Ok(Self { uri, password_file: config.password_file.clone(), ca_file: config.ca_file.clone(), place })
    }

    /// The URL with the password, and the certificates to trust; read anew for every connection, so that both may be
    /// changed while we run.
    async fn secrets(&self) -> Result<(AMQPUri, OwnedTLSConfig), SourceError> {
        let mut uri = self.uri.clone();
        let unreadable = |key, file: &Path, error: &_| SourceError::Settings(unreadable(key, file, error));
        if let Some(file) = &self.password_file {
            let password = fs::read_to_string(file).await;
            let password = password.map_err(|error| unreadable("rabbitmq.password_file", file, &error))?;
            password.trim_end_matches(['\r', '\n']).clone_into(&mut uri.authority.userinfo.password);
        }
        let mut tls = OwnedTLSConfig::default();
        if let Some(file) = &self.ca_file {
            let chain = fs::read_to_string(file).await;
            tls.cert_chain = Some(chain.map_err(|error| unreadable("rabbitmq.ca_file", file, &error))?);
        }
        Ok((uri, tls))
    }
}

/// What stands between `scheme://` and the path.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// A file that a key names cannot be read.
fn unreadable(key: &str, file: &Path, error: &io::Error) -> String {
    format!("{key}: {} cannot be read: {error}", file.display())
}

/// An open connection. Dropping it ends it at once: what was not settled is given out again by the broker.
pub(super) struct Broker {
    connection: Connection,
    place: String,
    _socket: Socket,
}

impl Broker {
    /// Opens a connection that calls itself `name`.
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self, SourceError> {
        let (uri, tls) = address.secrets().await?;
        let socket = Socket::default();
        let kept = Arc::clone(&socket.0);
        let connecting = Connection::connector(
            uri,
            runtime::default_runtime().map_err(|error| failed(error, &address.place))?,
            async move |uri, runtime| {
                // On the client's own thread, which would wait as long as the kernel does.
                let opening = AMQPUriTcpExt::connect_with_config_async(&uri, tls.as_ref(), &runtime);
                let opened = timeout(CONNECT_DEADLINE, opening).await;
                let stream = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                let end = match &stream {
                    AsyncTcpStream::Plain(plain) => plain.get_ref().as_fd().try_clone_to_owned()?,
                    AsyncTcpStream::Rustls(tls) => tls.get_ref().0.get_ref().as_fd().try_clone_to_owned()?,
                    _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
                };
                keep(&kept, end)?;
                Ok(stream)
            },
            ConnectionProperties::default().with_connection_name(format!("aftercheck {name}").into()),
        );
        match timeout(CONNECT_DEADLINE, connecting).await {
            Ok(Ok(connection)) => Ok(Self { connection, place: address.place.clone(), _socket: socket }),
            Ok(Err(error)) => Err(failed(error, &address.place)),
            Err(_) => Err(SourceError::Late("rabbitmq did not open a connection")),
        }
    }

    /// Opens one more channel.
    pub(super) async fn channel(&self) -> Result<Channel, SourceError> {
        self.connection.create_channel().await.map_err(|error| self.failed(error))
    }

    /// What a failure on this connection means.
    pub(super) fn failed(&self, error: lapin::Error) -> SourceError {
        failed(error, &self.place)
    }

    /// Whether it still stands, as far as the client knows.
    pub(super) fn stands(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker takes nothing at the moment.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Says goodbye, and waits a little for the answer.
    pub(super) async fn close(self) -> Result<(), SourceError> {
        match timeout(CLOSE_DEADLINE, self.connection.close(SUCCESS, "OK".into())).await {
            Ok(outcome) => outcome.map_err(|error| self.failed(error)),
            Err(_) => Err(SourceError::Late("rabbitmq did not close the connection")),
        }
    }
}

/// What a failure means, where it has a remedy; otherwise what the client says. The broker's words name no password.
pub(super) fn failed(error: lapin::Error, place: &str) -> SourceError {
    let remedy = match protocol_code(&error) {
        Some(403) => {
            "check the password (AFTERCHECK__SOURCE__RABBITMQ__URL in the environment, or [source.rabbitmq] \
             password_file) and what the user may do on the virtual host"
        }
        Some(530) => "check the virtual host at the end of [source.rabbitmq] url; %2f is the default one",
        _ => {
            let source = format!("{place}: {error}").into();
            return SourceError::Broker { queue: "rabbitmq", source };
        }
    };
    SourceError::Refused(format!("rabbitmq at {place}: {error}: {remedy}"))
}

/// The reply code, where the broker itself has refused.
pub(super) fn protocol_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

/// A handle on the socket of a connection, to end it when its peer does not answer: the client's thread would wait for
/// a farewell for ever. Ends it when dropped.
#[derive(Default)]
struct Socket(Arc<Mutex<End>>);

/// What is known of the socket.
#[derive(Default)]
struct End {
    open: Option<TcpStream>,
    dropped: bool,
}

/// Keeps the socket, unless nobody wants the connection any more.
fn keep(end: &Mutex<End>, socket: OwnedFd) -> io::Result<()> {
    let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
    if end.dropped {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    end.open = Some(TcpStream::from(socket));
    Ok(())
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        end.dropped = true;
        if let Some(socket) = end.open.take() {
            // One that is closed already cannot be shut down, and need not be.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}
