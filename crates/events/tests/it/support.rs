//! Servers, names and messages for the tests.

use async_nats::{HeaderMap, jetstream};
use model::{
    Ids, OutboxId, SystemClock, SystemIds, message::JsonText, message::Message, message::NewMessage,
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use taskbot_events::{
    Delivery, Source,
    config::{NatsConnection, NatsOutletConfig, NatsSourceConfig, StreamConfig},
    nats::{JetStreamOutlet, JetStreamSource},
};

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const INSTALLATION: &str = "test";

#[expect(clippy::disallowed_methods, reason = "services for tests are named by the environment")]
fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by `cargo xtask test`"))
}

/// The server that all tests share.
pub(crate) fn shared_url() -> String {
    environment("TASKBOT_TEST_NATS_URL")
}

/// A stream name that no other test has.
pub(crate) fn unique() -> String {
    format!("T{}", SystemIds.next().simple())
}

/// A server of its own, to be killed and started again on the same port with the same data.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    config: String,
    process: Option<Child>,
}

impl Server {
    /// Reserves port and folder; nothing runs yet. `extra` is added to the server's configuration.
    pub(crate) fn new(extra: &str) -> Self {
        let mut server = Self::without_jetstream();
        let store = server.folder.path().join("store");
        server.config += &format!("jetstream {{ store_dir: {store:?} }}\n{extra}\n");
        server
    }

    /// A server that stores nothing.
    pub(crate) fn without_jetstream() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = format!("listen: \"127.0.0.1:{port}\"\n");
        Self { folder: tempfile::tempdir().unwrap(), port, config, process: None }
    }

    pub(crate) fn started(extra: &str) -> Self {
        let mut server = Self::new(extra);
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let file = self.folder.path().join("nats.conf");
        std::fs::write(&file, &self.config).unwrap();
        let server = Command::new(environment("TASKBOT_TEST_NATS_SERVER"))
            .arg("-c")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(server.unwrap());
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// In good order, with its state written.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let signal = format!("term={}", process.id());
        let server = environment("TASKBOT_TEST_NATS_SERVER");
        assert!(Command::new(server).args(["--signal", &signal]).status().unwrap().success());
        process.wait().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A source over a stream of its own, with a short wait for acknowledgements.
pub(crate) fn source_config(url: &str, name: &str) -> NatsSourceConfig {
    let subject = format!("{name}.>");
    let stream = StreamConfig::created(name, &[subject.as_str()]);
    let mut config = NatsSourceConfig::new("bus", NatsConnection::to(url), stream, "taskbot");
    config.ack_wait = Duration::from_secs(2);
    config.strip_prefix = Some(name.to_owned());
    config
}

pub(crate) async fn source(config: NatsSourceConfig) -> JetStreamSource {
    JetStreamSource::connect(config, INSTALLATION, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) async fn established(config: NatsSourceConfig) -> JetStreamSource {
    let mut source = source(config).await;
    patiently(Box::pin(source.establish())).await.unwrap();
    source
}

pub(crate) fn outlet_config(url: &str, name: &str) -> NatsOutletConfig {
    let subject = format!("{name}.>");
    let stream = StreamConfig::created(name, &[subject.as_str()]);
    let mut config = NatsOutletConfig::new(NatsConnection::to(url), stream, INSTALLATION);
    config.subject_prefix = Some(name.to_owned());
    config
}

pub(crate) async fn outlet(config: NatsOutletConfig) -> JetStreamOutlet {
    JetStreamOutlet::connect(config, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("this takes too long")
}

/// A client beside the one under test.
pub(crate) async fn stream_client(url: &str) -> jetstream::Context {
    let client = async_nats::ConnectOptions::new().retry_on_initial_connect().connect(url).await.unwrap();
    // Until the server is there, the client assumes the usual limits.
    patiently(client.flush()).await.unwrap();
    jetstream::new(client)
}

/// Publishes and waits until the stream stored it.
pub(crate) async fn send(
    client: &jetstream::Context,
    subject: &str,
    headers: &[(&str, &str)],
    payload: &[u8],
) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let sent = client.publish_with_headers(subject.to_owned(), map, payload.to_vec().into()).await.unwrap();
    sent.await.unwrap();
}

/// Waits for the next delivery; the tests that use it take one at a time.
pub(crate) async fn next(source: &mut JetStreamSource) -> Delivery {
    let mut batch = patiently(source.next_batch(1)).await.unwrap();
    assert_eq!(batch.len(), 1);
    batch.remove(0)
}

pub(crate) fn id_of(delivery: &Delivery) -> String {
    delivery.content.as_ref().unwrap().id.to_string()
}

/// Waits until the server's view of the consumer is this.
pub(crate) async fn consumer_reaches(
    client: &jetstream::Context,
    stream: &str,
    reached: impl Fn(&jetstream::consumer::Info) -> bool,
) {
    patiently(async {
        loop {
            let stream = client.get_stream_no_info(stream).await.unwrap();
            if let Ok(info) = stream.consumer_info("taskbot").await
                && reached(&info)
            {
                return;
            }
            // Each turn is a round trip to the server.
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) fn message(id: i64, key: &str, data: Value) -> Message {
    let message = NewMessage {
        topic: "taskbot.task.queued".into(),
        subject: key.to_owned(),
        order_key: key.to_owned(),
        data: JsonText::of(&data),
        task: None,
        depth: 0,
        traceparent: None,
    };
    Message { id: OutboxId(id), message, created_at: chrono::DateTime::UNIX_EPOCH, position: None }
}

pub(crate) fn messages(ids: std::ops::Range<i64>, keys: i64) -> Vec<Message> {
    ids.map(|id| message(id, &format!("task:{}", id % keys), json!({"n": id}))).collect()
}

/// Publishes with bytes as headers, which no client library would send.
pub(crate) async fn send_raw(url: &str, subject: &str, headers: &[u8], payload: &[u8]) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let address = url.trim_start_matches("nats://");
    let mut stream = BufReader::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
    let sizes = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + payload.len());
    bytes.extend([sizes.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat());
    stream.write_all(&bytes).await.unwrap();
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0 && !line.starts_with("-ERR"), "{line}");
    }
}
