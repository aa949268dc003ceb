//! A TCP proxy that spoils connections: what it does to them is changed while they are open.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{sleep, timeout},
};

/// Bytes that are moved at a time.
const CHUNK: usize = 16 << 10;
/// How long the server is given to read what was sent before its answer is cut off.
const CUT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection to the server may take.
const CONNECT: Duration = Duration::from_secs(5);

/// What is done to connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toxic {
    /// Nothing: bytes pass.
    None,
    /// Every chunk waits this long.
    Latency(Duration),
    /// At most so many bytes a second in each direction.
    Bandwidth(usize),
    /// Nothing passes, and connections stay open.
    BlackHole,
    /// Open connections are reset, and so is every new one.
    Reset,
    /// A segment for each byte.
    Slice,
    /// A connection is closed after so many bytes, both directions together.
    Limit(usize),
    /// A connection is reset after so many bytes, both directions together.
    ResetAfter(usize),
    /// Connections are refused, open ones are closed.
    Down,
    /// Once the client has sent these bytes, nothing that the server says passes, and the connection is reset. So many
    /// times; then bytes pass.
    CutAfter(Vec<u8>, usize),
    /// Once the server has said these bytes, they and what follows are kept from the client, and the connection is
    /// reset. So many times; then bytes pass.
    CutAnswer(Vec<u8>, usize),
}

/// A proxy on a port of its own. It ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    toxics: watch::Sender<Toxic>,
    cuts: Arc<AtomicUsize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With what was sent so far.
    Close,
    /// At once, and the other side hears of it.
    Reset,
}

impl Proxy {
    /// A proxy in front of this port of this machine.
    pub fn before(port: u16) -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let (toxics, seen) = watch::channel(Toxic::None);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, target, seen, counted) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: told.recv().unwrap(), toxics, cuts, stop: Some(stop), thread: Some(thread) }
    }

    /// Changes what is done, to open connections too.
    pub fn set(&self, toxic: Toxic) {
        self.toxics.send_replace(toxic);
    }

    /// How many connections were cut after a pattern.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

/// Takes connections; while it is down nobody listens.
async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    mut toxics: watch::Receiver<Toxic>,
    cuts: Arc<AtomicUsize>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        if *toxics.borrow_and_update() == Toxic::Down {
            listener = None;
            if toxics.changed().await.is_err() {
                return;
            }
            continue;
        }
        if listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(again) => listener = Some(again),
                Err(_) => {
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            }
        }
        let open = listener.as_ref().unwrap();
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(relay(client, target, toxics.clone(), Arc::clone(&cuts)));
            },
            changed = toxics.changed() => if changed.is_err() { return },
        }
    }
}

/// Moves bytes between a client and the server until one of them, or the proxy, ends it.
async fn relay(
    mut client: TcpStream,
    target: SocketAddr,
    mut toxics: watch::Receiver<Toxic>,
    cuts: Arc<AtomicUsize>,
) {
    let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect(target)).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let moved = Moved { bytes: AtomicUsize::new(0), cut: AtomicBool::new(false), cuts: &cuts };
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, toxics.clone(), &moved, true);
        let down = pump(from_server, to_client, toxics.clone(), &moved, false);
        tokio::select! { end = up => end, end = down => end, end = ordered(&mut toxics) => end }
    };
    if end == End::Reset {
        drop((client.set_zero_linger(), server.set_zero_linger()));
    }
}

/// What both directions of a connection know.
struct Moved<'a> {
    bytes: AtomicUsize,
    cut: AtomicBool,
    cuts: &'a AtomicUsize,
}

impl Moved<'_> {
    /// Counts a cut, unless there were enough.
    fn may_cut(&self, times: usize) -> bool {
        let count = |cuts| (cuts < times).then_some(cuts + 1);
        self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok()
    }
}

/// Waits for a toxic that ends open connections.
async fn ordered(toxics: &mut watch::Receiver<Toxic>) -> End {
    loop {
        match *toxics.borrow_and_update() {
            Toxic::Reset => return End::Reset,
            Toxic::Down => return End::Close,
            _ => {}
        }
        if toxics.changed().await.is_err() {
            return End::Close;
        }
    }
}

/// Moves bytes in one direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut toxics: watch::Receiver<Toxic>,
    moved: &Moved<'_>,
    up: bool,
) -> End {
    let (mut buffer, mut tail) = (vec![0; CHUNK], Vec::new());
    loop {
        let piece = piece(&pass(&mut toxics).await);
        let read = tokio::select! {
            read = from.read(&mut buffer[..piece]) => read,
            changed = toxics.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return End::Close,
            },
        };
        let bytes = match read {
            Ok(0) => return End::Close,
            Ok(count) => &buffer[..count],
            Err(_) => return End::Reset,
        };
        // It may have changed while nothing came.
        let toxic = pass(&mut toxics).await;
        if let Toxic::CutAfter(pattern, times) = &toxic
            && up
            && holds(&mut tail, bytes, pattern)
            && moved.may_cut(*times)
        {
            // Before the server can hear of it: its answer must not slip through.
            moved.cut.store(true, Ordering::SeqCst);
            drop(to.write_all(bytes).await);
            sleep(CUT_PAUSE).await;
            return End::Reset;
        }
        if let Toxic::CutAnswer(pattern, times) = &toxic
            && !up
            && holds(&mut tail, bytes, pattern)
            && moved.may_cut(*times)
        {
            return End::Reset;
        }
        if !up && moved.cut.load(Ordering::SeqCst) {
            continue;
        }
        delay(&toxic, bytes.len()).await;
        if to.write_all(bytes).await.is_err() {
            return End::Reset;
        }
        let sum = moved.bytes.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        match toxic {
            Toxic::Limit(most) if sum >= most => return End::Close,
            Toxic::ResetAfter(most) if sum >= most => return End::Reset,
            _ => {}
        }
    }
}

/// What is to be done, once something may pass.
async fn pass(toxics: &mut watch::Receiver<Toxic>) -> Toxic {
    loop {
        let toxic = toxics.borrow_and_update().clone();
        // When the proxy ends, so does the connection.
        if toxic != Toxic::BlackHole || toxics.changed().await.is_err() {
            return toxic;
        }
    }
}

/// Most bytes that are read at a time.
fn piece(toxic: &Toxic) -> usize {
    match toxic {
        Toxic::Slice => 1,
        Toxic::Bandwidth(rate) => (rate / 10).clamp(1, CHUNK),
        Toxic::Limit(most) | Toxic::ResetAfter(most) => (*most).clamp(1, CHUNK),
        _ => CHUNK,
    }
}

/// The wait before so many bytes are passed on.
async fn delay(toxic: &Toxic, bytes: usize) {
    match toxic {
        Toxic::Latency(wait) => sleep(*wait).await,
        Toxic::Bandwidth(rate) => sleep(Duration::from_secs_f64(bytes as f64 / *rate as f64)).await,
        _ => {}
    }
}

/// Whether the pattern has come by in what was sent so far; it may lie across two chunks.
fn holds(tail: &mut Vec<u8>, bytes: &[u8], pattern: &[u8]) -> bool {
    tail.extend_from_slice(bytes);
    let found = tail.windows(pattern.len()).any(|window| window == pattern);
    let kept = tail.len().min(pattern.len().saturating_sub(1));
    tail.drain(..tail.len() - kept);
    found
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
        time::Instant,
    };

    use super::*;

    /// A server that sends back what it gets, and tells what it got.
    fn echo() -> (Proxy, mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; CHUNK];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        drop(tell.send(buffer[..count].to_vec()));
                        if stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (Proxy::before(port), told)
    }

    /// A client that does not wait for ever.
    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends bytes and reads as many back.
    fn ask(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(bytes)?;
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).map(|()| answer)
    }

    #[test]
    fn bytes_pass_and_wait_as_long_as_they_are_told_to() {
        let (proxy, _told) = echo();
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        proxy.set(Toxic::Latency(Duration::from_millis(60)));
        let begun = Instant::now();
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        assert!(begun.elapsed() >= Duration::from_millis(120), "both ways");
        proxy.set(Toxic::Bandwidth(1000));
        let begun = Instant::now();
        assert_eq!(ask(&mut stream, &[7; 200]).unwrap(), [7; 200]);
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn a_slicer_sends_a_byte_at_a_time() {
        let (proxy, told) = echo();
        proxy.set(Toxic::Slice);
        assert_eq!(ask(&mut client(&proxy), &[1; 40]).unwrap(), [1; 40]);
        // Bytes may meet again in the server's buffer, but not all of them in one read.
        assert!(told.recv().unwrap().len() < 40);
    }

    #[test]
    fn a_black_hole_keeps_what_it_holds_until_it_ends() {
        let (proxy, told) = echo();
        let mut stream = client(&proxy);
        ask(&mut stream, b"a").unwrap();
        told.recv().unwrap();
        proxy.set(Toxic::BlackHole);
        stream.write_all(b"b").unwrap();
        assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "nothing passes");
        proxy.set(Toxic::None);
        assert_eq!(told.recv().unwrap(), b"b", "nothing is lost, and the connection is the same");
    }

    #[test]
    fn connections_are_reset_refused_and_limited() {
        let (proxy, _told) = echo();
        let mut stream = client(&proxy);
        ask(&mut stream, b"a").unwrap();
        proxy.set(Toxic::Reset);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        proxy.set(Toxic::Limit(4));
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"ab").unwrap(), b"ab");
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed, not reset");
        proxy.set(Toxic::ResetAfter(4));
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"ab").unwrap(), b"ab");
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        proxy.set(Toxic::Down);
        let refused = || TcpStream::connect(proxy.address).is_err().then_some(());
        crate::service::eventually(refused).expect("nobody listens");
        proxy.set(Toxic::None);
        let back = || ask(&mut TcpStream::connect(proxy.address).ok()?, b"a").ok();
        assert_eq!(crate::service::eventually(back).unwrap(), b"a");
    }

    #[test]
    fn after_a_pattern_the_server_has_heard_and_the_client_has_not() {
        let (proxy, told) = echo();
        proxy.set(Toxic::CutAfter(b"COMMIT".to_vec(), 1));
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"BEGIN; COM").unwrap(), b"BEGIN; COM");
        told.recv().unwrap();
        assert_eq!(ask(&mut stream, b"MIT;").unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(told.recv().unwrap(), b"MIT;");
        assert_eq!(proxy.cuts(), 1);
        assert_eq!(ask(&mut client(&proxy), b"COMMIT;").unwrap(), b"COMMIT;", "once was ordered");
        proxy.set(Toxic::CutAnswer(b"DONE".to_vec(), 2));
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"DO").unwrap(), b"DO");
        assert_eq!(ask(&mut stream, b"NE").unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(proxy.cuts(), 2);
    }
}
