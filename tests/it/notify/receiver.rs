//! A receiver of HTTP messages, of sockets and threads: it keeps what it was sent, and answers well, badly, slowly or without
//! end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

/// What a receiver answers.
#[derive(Debug, Clone)]
pub enum Says {
    /// This status, these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Nothing, and it keeps the connection.
    Nothing,
    /// Its headers, a byte every tenth of a second.
    Drips,
    /// 200 and a body without end.
    Floods,
}

impl Says {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }
}

/// What it was sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Makes an answer of a request: a contract.
pub type Contract = Arc<dyn Fn(&Request) -> Says + Send + Sync>;

/// A receiver.
#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    contract: Arc<Mutex<Contract>>,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Receiver {
    /// A receiver that answers this.
    pub fn says(says: Says) -> Self {
        Self::at("127.0.0.1:0", says)
    }

    /// The same at an address.
    pub fn at(address: &str, says: Says) -> Self {
        Self::of(address, Arc::new(move |_: &Request| says.clone()))
    }

    /// A receiver that keeps to a contract.
    pub fn keeps(contract: impl Fn(&Request) -> Says + Send + Sync + 'static) -> Self {
        Self::of("127.0.0.1:0", Arc::new(contract))
    }

    fn of(address: &str, contract: Contract) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            contract: Arc::new(Mutex::new(contract)),
            requests: Arc::default(),
            connections: Arc::default(),
            written: Arc::default(),
        };
        let serving = receiver.clone();
        // They end with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let serving = serving.clone();
                std::thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        receiver
    }

    /// Answers this from now on.
    pub fn answers(&self, says: Says) {
        *self.contract.lock().unwrap() = Arc::new(move |_: &Request| says.clone());
    }

    /// Where it is, with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was sent so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of floods were taken.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if line.is_empty() {
            return Ok(());
        }
        let request = Request { line: line.trim_end().to_owned(), headers, body };
        let contract = Arc::clone(&self.contract.lock().unwrap());
        let says = contract(&request);
        self.lock().push(request);
        self.answer(stream, says)
    }

    fn answer(&self, mut stream: TcpStream, says: Says) -> std::io::Result<()> {
        match says {
            Says::Status(status, headers, body) => {
                let headers: String =
                    headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
            }
            Says::Nothing => {
                sleep(Duration::from_secs(60));
                Ok(())
            }
            Says::Drips => {
                let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "y".repeat(600));
                for byte in head.bytes() {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    sleep(Duration::from_millis(100));
                }
                Ok(())
            }
            Says::Floods => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")?;
                let block = [b'x'; 65536];
                loop {
                    stream.write_all(&block)?;
                    self.written.fetch_add(block.len() as u64, Ordering::SeqCst);
                }
            }
        }
    }
}

/// What a receiver of webhooks knows at the end: the ids and bodies under which each notice came.
#[derive(Debug, Default)]
pub struct Heard {
    /// Message ids by notice.
    pub ids: BTreeMap<String, BTreeSet<String>>,
    /// Bodies by message id.
    pub bodies: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Heard {
    /// What these requests tell. Each is about one notice.
    pub fn of(requests: &[Request]) -> Self {
        let mut heard = Self::default();
        for request in requests {
            let message = request.header("webhook-id").to_owned();
            let notice = request.json()["data"]["id"].as_str().unwrap().to_owned();
            heard.ids.entry(notice).or_default().insert(message.clone());
            heard.bodies.entry(message).or_default().insert(request.body.clone());
        }
        heard
    }

    /// What is wrong with it, where these notices were to be told.
    pub fn wrong(&self, written: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some((notice, ids)) = self.ids.iter().find(|(_, ids)| ids.len() > 1) {
            wrong.push(format!("W: notice {notice} came under {} ids", ids.len()));
        }
        if let Some((id, bodies)) = self.bodies.iter().find(|(_, bodies)| bodies.len() > 1) {
            wrong.push(format!("W: message {id} came with {} bodies", bodies.len()));
        }
        let told: BTreeSet<String> = self.ids.keys().cloned().collect();
        let (lost, unknown) = (written.difference(&told).count(), told.difference(written).count());
        if lost > 0 {
            wrong.push(format!("C: {lost} notices lost"));
        }
        if unknown > 0 {
            wrong.push(format!("C: {unknown} notices that nobody wrote"));
        }
        wrong
    }
}
