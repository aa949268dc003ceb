//! A TCP proxy that misbehaves on demand.

use std::{
    borrow::Cow,
    collections::BTreeSet,
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
    /// Deliveries vanish from connections that are opened now, and from no other; all else passes.
    Undelivered,
}

/// The server's side of an AMQP 0-9-1 connection without its deliveries (`basic.deliver` and the content behind it).
#[derive(Default)]
struct Undelivered {
    /// The beginning of a frame.
    left: Vec<u8>,
    /// Channels whose content belongs to a delivery.
    dropping: BTreeSet<u16>,
}

impl Undelivered {
    /// What passes of the bytes that came.
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.left.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while let Some(header) = self.left.first_chunk::<7>().copied() {
            let [kind, c0, c1, s0, s1, s2, s3] = header;
            let (channel, size) =
                (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([s0, s1, s2, s3]) as usize);
            let length = 7 + size + 1;
            if self.left.len() < length {
                break;
            }
            let frame: Vec<u8> = self.left.drain(..length).collect();
            // A method frame begins with class and method: 60 and 60 deliver a message.
            let delivers = kind == 1 && frame[7..11] == [0, 60, 0, 60];
            match kind {
                1 if delivers => drop(self.dropping.insert(channel)),
                1 => drop(self.dropping.remove(&channel)),
                _ => {}
            }
            let is_content = matches!(kind, 2 | 3) && self.dropping.contains(&channel);
            if !delivers && !is_content {
                passed.extend(frame);
            }
        }
        passed
    }
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
    let withheld = (*mode.borrow() == Mode::Undelivered).then(Undelivered::default);
    open.fetch_add(1, Ordering::SeqCst);
    if let Ok(server) = TcpStream::connect(target).await {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let up = copy(&mut from_client, &mut to_server, mode.clone(), None);
        let down = async {
            // A server that leaves does not show in the hole: the client alone ends such a connection.
            if !copy(&mut from_server, &mut to_client, mode, withheld).await {
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
    mut withheld: Option<Undelivered>,
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
                Ok(count) => {
                    let came = &buffer[..count];
                    let passed = withheld.as_mut().map_or(Cow::Borrowed(came), |one| one.pass(came).into());
                    if to.write_all(&passed).await.is_err() {
                        return hole;
                    }
                }
            },
            _ = mode.changed() => {}
        }
    }
}
