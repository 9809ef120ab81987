//! NATS: streams for each drill, and servers of a drill's own.

use super::environment::{free_port, required};
use async_nats::{
    HeaderMap,
    jetstream::{self, consumer::pull},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::process::{Child, Command, Stdio};

/// How many publications are in flight at a time.
const IN_FLIGHT: usize = 64;
/// As that of the shared server: an event of 10 MB must fit.
const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

/// A message to be published.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// Below the installation's prefix.
    pub(crate) topic: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Vec<u8>,
}

/// A client of a bus, with the names of one installation's streams.
pub(crate) struct Bus {
    pub(crate) url: String,
    /// The stream that events come from, and the prefix of their subjects.
    pub(crate) events: String,
    /// The stream that is told on, and the prefix of its subjects.
    pub(crate) told: String,
    client: jetstream::Context,
}

impl Bus {
    pub(crate) async fn new(url: &str, name: &str) -> Self {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect().max_reconnects(None);
        let client = options.connect(url).await.unwrap();
        // Until the server is there, the client assumes the usual limits.
        client.flush().await.unwrap();
        let (events, told) = (format!("{name}_in"), format!("{name}_out"));
        Self { url: url.to_owned(), events, told, client: jetstream::new(client) }
    }

    /// On the server that all tests share.
    pub(crate) async fn shared(name: &str) -> Self {
        Self::new(&required("TASKBOT_TEST_NATS_URL"), name).await
    }

    /// Makes the stream that events come from, as a bus that is not ours would have it.
    pub(crate) async fn make_events_stream(&self) {
        let config = jetstream::stream::Config {
            name: self.events.clone(),
            subjects: vec![format!("{}.>", self.events)],
            ..Default::default()
        };
        self.client.create_stream(config).await.unwrap();
    }

    /// Publishes in this order, and waits until the stream stored all of it.
    pub(crate) async fn publish(&self, publications: impl IntoIterator<Item = Publication>) {
        let send = |publication: Publication| async move {
            let mut headers = HeaderMap::new();
            for (name, value) in publication.headers {
                headers.append(name, value);
            }
            let subject = format!("{}.{}", self.events, publication.topic);
            // A lost acknowledgement leads to another publication, as with any producer that wants none lost.
            loop {
                let payload = publication.payload.clone().into();
                let sent = self.client.publish_with_headers(subject.clone(), headers.clone(), payload).await;
                if let Ok(stored) = sent
                    && stored.await.is_ok()
                {
                    return;
                }
            }
        };
        stream::iter(publications).map(send).buffered(IN_FLIGHT).collect::<Vec<()>>().await;
    }

    /// Publishes with bytes as headers, which no client library would send.
    pub(crate) async fn publish_raw(&self, topic: &str, headers: &[u8], payload: &[u8]) {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let address = self.url.trim_start_matches("nats://");
        let mut stream = BufReader::new(tokio::net::TcpStream::connect(address).await.unwrap());
        let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
        let sizes =
            format!("HPUB {}.{topic} {} {}\r\n", self.events, headers.len(), headers.len() + payload.len());
        bytes.extend([sizes.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat());
        stream.write_all(&bytes).await.unwrap();
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0 && !line.starts_with("-ERR"), "{line}");
        }
    }

    /// How many messages the servers have not acknowledged yet; `None` while the bus is away.
    pub(crate) async fn unacknowledged(&self, durable: &str) -> Option<u64> {
        let stream = self.client.get_stream_no_info(&self.events).await.ok()?;
        let info = stream.consumer_info(durable).await.ok()?;
        Some(info.num_pending + u64::try_from(info.num_ack_pending).unwrap())
    }

    /// Everything that was told so far: type and subject of each, in the order of the stream.
    pub(crate) async fn all_told(&self) -> Vec<(String, String)> {
        let mut stream = self.client.get_stream(&self.told).await.unwrap();
        let count = usize::try_from(stream.info().await.unwrap().state.messages).unwrap();
        let config = pull::OrderedConfig::default();
        let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        let told = messages.take(count).map_ok(|message| {
            let headers = message.headers.clone().unwrap_or_default();
            let header = |name: &str| headers.get(name).map(ToString::to_string).unwrap_or_default();
            (header("ce-type"), header("ce-subject"))
        });
        told.try_collect().await.unwrap()
    }

    /// Publishes a message that was told once more, into the stream of events: a copy that came back.
    pub(crate) async fn send_back(&self, position: u64) {
        let stream = self.client.get_stream(&self.told).await.unwrap();
        let message = stream.get_raw_message(position).await.unwrap();
        let topic = message.subject.trim_start_matches(&self.told).trim_start_matches('.').to_owned();
        let subject = format!("{}.{topic}", self.events);
        let mut headers = HeaderMap::new();
        // What the bus itself minds is not passed on by those who pass on.
        let passed_on = message.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-"));
        for (name, values) in passed_on {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
        let sent = self.client.publish_with_headers(subject, headers, message.payload).await.unwrap();
        sent.await.unwrap();
    }

    /// Removes the streams of this drill.
    pub(crate) async fn remove(&self) {
        for stream in [&self.events, &self.told] {
            // It is not there when the drill failed early.
            let _ = self.client.delete_stream(stream).await;
        }
    }
}

/// A server of a drill's own, to be stopped and started again on the same port with the same data.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    pub(crate) fn started() -> Self {
        let port = free_port();
        let mut server = Self { folder: tempfile::tempdir().unwrap(), port, process: None };
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let (file, store) = (self.folder.path().join("nats.conf"), self.folder.path().join("store"));
        // What was acknowledged must be there after the fault.
        let config = format!(
            "listen: \"127.0.0.1:{}\"\nmax_payload: {MAX_PAYLOAD_BYTES}\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n",
            self.port
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(required("TASKBOT_TEST_NATS_SERVER"));
        command.arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
    }

    /// As by `kill -9`.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
