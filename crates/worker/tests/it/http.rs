//! A small HTTP/1.1 server, so that tests can cut, delay and refuse what no real one would.

use futures_util::future::BoxFuture;
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A request, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// The length of all of it is promised, and this many bytes are sent.
    Cut {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        after: usize,
    },
    /// The connection is closed without an answer.
    Drop,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::text(status, "")
    }

    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: text.as_bytes().to_vec() }
    }

    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: serde_json::to_vec(value).unwrap() }
    }
}

pub(crate) type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Reply> + Send + Sync>;

/// A server on a free port of the loopback interface.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(handler: Handler) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), handler).await
    }

    pub(crate) async fn start_at(address: SocketAddr, handler: Handler) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
        });
        Self { address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Goes away with all its connections.
    pub(crate) async fn stop(self) -> SocketAddr {
        let address = self.address;
        self.task.abort();
        drop(self.task.await);
        address
    }
}

async fn serve(stream: TcpStream, handler: Handler) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        // Whoever closes the connection takes the answer back, as with a real server.
        let reply = tokio::select! {
            reply = handler(request) => reply,
            more = stream.fill_buf() => match more {
                Ok([]) | Err(_) => return,
                Ok(_) => panic!("requests are not pipelined here"),
            },
        };
        let (status, headers, body, after) = match reply {
            Reply::Answer { status, headers, body } => (status, headers, body, None),
            Reply::Cut { status, headers, body, after } => (status, headers, body, Some(after)),
            Reply::Drop => return,
        };
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let sent = &body[..after.unwrap_or(body.len())];
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(sent).await.is_err() {
            return;
        }
        if stream.flush().await.is_err() || after.is_some() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ');
    let target = words.nth(1)?;
    let url = url::Url::parse(&format!("http://test{target}")).ok()?;
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let query = url.query_pairs().into_owned().collect();
    Some(Request { path: url.path().to_owned(), query, headers, body })
}
