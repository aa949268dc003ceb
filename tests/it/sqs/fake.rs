//! A small SQS of our own for what an emulator does not do: parts of batches that fail, polls that hang, receipts that
//! grow old, a message given twice. It speaks the JSON protocol and keeps its queues in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How often a long poll looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is never answered.
    Hang,
    /// It is answered with this status and error code.
    Status(u16, &'static str),
    /// Every second entry of the batch fails, by the sender's fault or not, and is not done.
    Half { sender_fault: bool },
    /// Every entry of the batch fails with this code, by the sender's fault.
    Every(&'static str),
    /// What is received stays visible, so that it is given again at once under another receipt.
    Twice,
}

/// A server in a thread of its own, which ends with the test's process.
#[derive(Clone)]
pub struct Fake {
    /// Its address.
    pub endpoint: String,
    state: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    queues: HashMap<String, Vec<Message>>,
    attributes: Value,
    faults: Vec<Planned>,
    calls: Vec<Call>,
    receipts: usize,
}

/// A fault that is to come.
struct Planned {
    action: &'static str,
    queue: String,
    times: usize,
    fault: Fault,
}

/// A call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `ReceiveMessage`.
    pub action: String,
    /// What was asked.
    pub body: Value,
}

struct Message {
    body: String,
    sent_ms: u128,
    receives: usize,
    visible_at: Instant,
    receipt: String,
}

impl Fake {
    /// A server without queues; the first call to a queue makes it, as if it had always been there.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { endpoint, state: Arc::default() };
        let router = Router::new().route("/", post(answer)).with_state(fake.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        fake
    }

    /// Lets the next calls of an action go wrong, for queues whose name ends so; the empty name is any queue.
    pub fn plan(&self, action: &'static str, queue: &str, times: usize, fault: Fault) {
        self.held().faults.push(Planned { action, queue: queue.to_owned(), times, fault });
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        self.held().faults.clear();
    }

    /// Sets attributes that every queue says it has.
    pub fn set_attributes(&self, attributes: Value) {
        self.held().attributes = attributes;
    }

    /// The calls of an action so far.
    pub fn calls(&self, action: &str) -> Vec<Call> {
        self.held().calls.iter().filter(|call| call.action == action).cloned().collect()
    }

    /// Messages that are left.
    pub fn left(&self) -> usize {
        self.held().queues.values().map(Vec::len).sum()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap()
    }

    /// The fault that this call meets.
    fn fault(&self, action: &str, queue: &str) -> Option<Fault> {
        let mut held = self.held();
        let fits = |planned: &&mut Planned| {
            planned.action == action && planned.times > 0 && queue.ends_with(&planned.queue)
        };
        let planned = held.faults.iter_mut().find(fits)?;
        planned.times -= 1;
        Some(planned.fault)
    }
}

/// Answers one call.
async fn answer(State(fake): State<Fake>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let action = target.strip_prefix("AmazonSQS.").unwrap().to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let queue = asked["QueueUrl"].as_str().or_else(|| asked["QueueName"].as_str()).unwrap().to_owned();
    let name = queue.rsplit('/').next().unwrap().to_owned();
    fake.held().calls.push(Call { action: action.clone(), body: asked.clone() });
    let fault = fake.fault(&action, &name);
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Status(status, code)) => return refuse(status, code, &headers),
        _ => {}
    }
    let answer = match action.as_str() {
        "GetQueueUrl" | "CreateQueue" => json!({"QueueUrl": format!("{}/1/{name}", fake.endpoint)}),
        "GetQueueAttributes" => fake.attributes(&name),
        "SendMessageBatch" => fake.each(&asked, fault, |held, entry| held.send(&name, entry)),
        "DeleteMessageBatch" => fake.each(&asked, fault, |held, entry| held.delete(&name, entry)),
        "ChangeMessageVisibilityBatch" => fake.each(&asked, fault, |held, entry| held.change(&name, entry)),
        "ReceiveMessage" => fake.receive(&name, &asked, fault).await,
        other => panic!("the fake knows no {other}"),
    };
    ([("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

/// An error, with everything in it that a careless service might repeat of a request.
fn refuse(status: u16, code: &str, headers: &HeaderMap) -> Response {
    let repeated = format!("{code} said the fake.\nThe canonical request was\n{headers:?}");
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": repeated});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

impl Fake {
    /// Does each entry of a batch that the fault spares.
    fn each(
        &self,
        asked: &Value,
        fault: Option<Fault>,
        mut work: impl FnMut(&mut Held, &Value) -> Result<Value, &'static str>,
    ) -> Value {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        let mut fail = |entry: &Value, sender_fault: bool, code: &str| {
            failed
                .push(json!({"Id": entry["Id"], "SenderFault": sender_fault, "Code": code, "Message": "no"}));
        };
        for (place, entry) in asked["Entries"].as_array().unwrap().iter().enumerate() {
            match fault {
                Some(Fault::Half { sender_fault }) if place % 2 == 0 => {
                    fail(entry, sender_fault, "InternalError")
                }
                Some(Fault::Every(code)) => fail(entry, true, code),
                _ => match work(&mut self.held(), entry) {
                    Ok(answer) => done.push(answer),
                    Err(code) => fail(entry, true, code),
                },
            }
        }
        json!({"Successful": done, "Failed": failed})
    }

    /// What a queue says of itself.
    fn attributes(&self, queue: &str) -> Value {
        let held = self.held();
        let now = Instant::now();
        let messages = held.queues.get(queue).map_or(&[][..], Vec::as_slice);
        let visible = messages.iter().filter(|message| message.visible_at <= now).count();
        let mut attributes = json!({
            "VisibilityTimeout": "30", "QueueArn": format!("arn:aws:sqs:us-east-1:1:{queue}"),
            "ApproximateNumberOfMessages": visible.to_string(),
            "ApproximateNumberOfMessagesNotVisible": (messages.len() - visible).to_string(),
        });
        for (name, value) in held.attributes.as_object().into_iter().flatten() {
            attributes[name] = value.clone();
        }
        json!({"Attributes": attributes})
    }

    /// Waits for messages as long as it was asked to.
    async fn receive(&self, queue: &str, asked: &Value, fault: Option<Fault>) -> Value {
        let until = Instant::now() + Duration::from_secs(asked["WaitTimeSeconds"].as_u64().unwrap_or(0));
        loop {
            let messages = self.held().take(queue, asked, matches!(fault, Some(Fault::Twice)));
            if !messages.is_empty() || Instant::now() >= until {
                return json!({"Messages": messages});
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Held {
    fn send(&mut self, queue: &str, entry: &Value) -> Result<Value, &'static str> {
        let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.queues.entry(queue.to_owned()).or_default().push(Message {
            body: entry["MessageBody"].as_str().unwrap().to_owned(),
            sent_ms: sent.as_millis(),
            receives: 0,
            visible_at: Instant::now(),
            receipt: String::new(),
        });
        Ok(json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "d"}))
    }

    fn take(&mut self, queue: &str, asked: &Value, twice: bool) -> Vec<Value> {
        let most = asked["MaxNumberOfMessages"].as_u64().unwrap_or(1) as usize;
        let hidden = Duration::from_secs(asked["VisibilityTimeout"].as_u64().unwrap_or(30));
        let now = Instant::now();
        let messages = self.queues.entry(queue.to_owned()).or_default();
        let mut taken = Vec::new();
        for message in messages.iter_mut().filter(|message| message.visible_at <= now).take(most) {
            self.receipts += 1;
            message.receives += 1;
            message.receipt = format!("receipt-{}", self.receipts);
            if !twice {
                message.visible_at = now + hidden;
            }
            taken.push(json!({
                "MessageId": "m", "ReceiptHandle": message.receipt, "Body": message.body, "Attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "SentTimestamp": message.sent_ms.to_string(),
                },
            }));
        }
        taken
    }

    /// As SQS does: an old receipt is answered with success and deletes nothing.
    fn delete(&mut self, queue: &str, entry: &Value) -> Result<Value, &'static str> {
        let receipt = entry["ReceiptHandle"].as_str().unwrap();
        self.queues.entry(queue.to_owned()).or_default().retain(|message| message.receipt != receipt);
        Ok(json!({"Id": entry["Id"]}))
    }

    fn change(&mut self, queue: &str, entry: &Value) -> Result<Value, &'static str> {
        let now = Instant::now();
        let receipt = entry["ReceiptHandle"].as_str().unwrap();
        let messages = self.queues.entry(queue.to_owned()).or_default();
        let in_flight = |message: &&mut Message| message.receipt == receipt && message.visible_at > now;
        let message = messages.iter_mut().find(in_flight).ok_or("MessageNotInflight")?;
        message.visible_at = now + Duration::from_secs(entry["VisibilityTimeout"].as_u64().unwrap());
        Ok(json!({"Id": entry["Id"]}))
    }
}
