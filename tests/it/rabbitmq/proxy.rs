//! A TCP proxy that misbehaves on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    Pass,
    /// They vanish; a connection that was in the hole once stays in it.
    Hole,
    /// Connections are cut, and new ones too.
    Cut,
}

/// A proxy in front of one address, for as long as its runtime lives.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    open: Arc<AtomicUsize>,
}

impl Proxy {
    /// Passes everything on to `target`.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(Mode::Pass);
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target.clone(), watched.clone(), Arc::clone(&counted)));
            }
        });
        Self { address, mode, open }
    }

    /// Changes what becomes of the bytes.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections that the client has not closed.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// One connection.
async fn serve(client: TcpStream, target: String, mode: watch::Receiver<Mode>, open: Arc<AtomicUsize>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    open.fetch_add(1, Ordering::SeqCst);
    if let Ok(server) = TcpStream::connect(target).await {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let up = copy(&mut from_client, &mut to_server, mode.clone());
        let down = async {
            // A server that leaves does not show in the hole: the client alone ends such a connection.
            if !copy(&mut from_server, &mut to_client, mode).await {
                drop(to_client.shutdown().await);
            }
            std::future::pending().await
        };
        tokio::select! {
            _ = up => {}
            () = down => {}
        }
    }
    open.fetch_sub(1, Ordering::SeqCst);
}

/// Copies in one direction until the end, or until it is cut; true when the bytes vanished at last.
async fn copy(
    from: &mut tcp::OwnedReadHalf,
    to: &mut tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) -> bool {
    let (mut buffer, mut hole) = (vec![0; 65_536], false);
    loop {
        let now = *mode.borrow_and_update();
        hole |= now == Mode::Hole;
        if now == Mode::Cut {
            return hole;
        }
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return hole,
                Ok(_) if hole => {}
                Ok(count) => if to.write_all(&buffer[..count]).await.is_err() { return hole },
            },
            _ = mode.changed() => {}
        }
    }
}
