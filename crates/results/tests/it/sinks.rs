//! The suite that every kind of sink passes, against a real HTTP server.

#![expect(clippy::unwrap_used, reason = "a server for tests that breaks fails its test")]

use model::{
    ids::{OutboxId, Position},
    message::{JsonText, Message, NewMessage},
    sink::{Sink, SinkError},
    topic::{Topic, TopicPattern},
};
use serde_json::{Value, json};
use taskbot_results::sink::{ResultsDbSink, WebhookSink, resultsdb::Words};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A sink of a kind, whose place is at this URL.
type Make = fn(url: &str) -> Box<dyn Sink>;

/// Each kind with the path that it posts to.
const KINDS: [(&str, Make); 2] = [("/results", resultsdb), ("/", webhook)];

fn resultsdb(url: &str) -> Box<dyn Sink> {
    let words = Words { all: true, ..Words::default() };
    Box::new(ResultsDbSink::new("a", url, Some("the-token".to_owned()), words).unwrap())
}

fn webhook(url: &str) -> Box<dyn Sink> {
    let topics = vec![TopicPattern::parse("taskbot.result.*").unwrap()];
    Box::new(WebhookSink::new("a", url, Some("secret".to_owned()), topics, "qa").unwrap())
}

fn message() -> Message {
    let result = json!({
        "id": 7, "testcase": "dist.rpmlint", "item": {"type": "koji_build", "id": "audit-2.8-1"},
        "outcome": "passed", "data": {"arch": "x86_64"}, "created_at": "2026-11-21T10:00:00Z",
    });
    Message {
        id: OutboxId(12),
        message: NewMessage {
            topic: Topic::from("taskbot.result.new"),
            subject: "7".to_owned(),
            order_key: "result:7".to_owned(),
            data: JsonText::of(&result),
            task: None,
            depth: 0,
            traceparent: None,
        },
        created_at: "2026-11-21T10:00:00Z".parse().unwrap(),
        position: Some(Position(3)),
    }
}

/// Answers one request with this; gives the request.
pub(crate) async fn answer(listener: TcpListener, with: &'static str) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = socket.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&request);
        let length = |head: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with("content-length:"))?;
            line.split_once(':')?.1.trim().parse::<usize>().ok()
        };
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length(head).unwrap_or(0)
        {
            break;
        }
    }
    socket.write_all(with.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

/// What came of a message at a place that answers so, and what came there.
async fn deliver(make: Make, with: &'static str) -> (Result<(), SinkError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = make(&format!("http://{}", listener.local_addr().unwrap()));
    let message = message();
    tokio::join!(sink.deliver(&message), answer(listener, with))
}

#[tokio::test]
async fn what_is_taken_is_there_once() {
    for (path, make) in KINDS {
        let (done, request) = deliver(make, "HTTP/1.1 201 CREATED\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(done, Ok(()), "{path}");
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{request}");
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert!(body.to_string().contains("dist.rpmlint"), "{body}");
    }
    let (_, request) = deliver(resultsdb, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(request.contains("authorization: Bearer the-token"), "{request}");
    let (_, request) = deliver(webhook, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(request.contains("x-hub-signature-256: sha256=") && !request.contains("secret"), "{request}");
    let event: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&event["id"], &event["type"]), (&json!("qa/12"), &json!("taskbot.result.new")));
}

#[tokio::test]
async fn answers_say_whether_trying_again_may_help() {
    for (path, make) in KINDS {
        for (with, expect) in [
            ("HTTP/1.1 503 Away\r\ncontent-length: 4\r\n\r\nsoon", "away: it answered 503: soon"),
            ("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n", "broken: it answered 500"),
            ("HTTP/1.1 400 No\r\ncontent-length: 8\r\n\r\nnot this", "refused: it answered 400: not this"),
            (
                "HTTP/1.1 302 Over\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                "refused: it answered 302",
            ),
        ] {
            let (done, _) = deliver(make, with).await;
            let said = match done.unwrap_err() {
                SinkError::Away(text) => format!("away: {text}"),
                SinkError::Broken(text) => format!("broken: {text}"),
                SinkError::Refused(text) => format!("refused: {text}"),
            };
            assert_eq!(said, expect, "{path}");
        }
    }
}

#[tokio::test]
async fn a_place_that_is_not_there_is_away() {
    for (path, make) in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = make(&url).deliver(&message()).await.unwrap_err();
        assert!(
            matches!(error, SinkError::Away(_)) && error.to_string().contains("refused"),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn what_is_not_for_it_is_not_wanted() {
    for (path, make) in KINDS {
        let sink = make("http://127.0.0.1:1");
        let mut told = message().message;
        assert!(sink.wants(&told), "{path}");
        told.topic = Topic::from("taskbot.task.finished");
        assert!(!sink.wants(&told), "{path}");
    }
    // A result of nobody's task stays here, unless all are wanted.
    let sink = ResultsDbSink::new("a", "http://127.0.0.1:1", None, Words::default()).unwrap();
    assert_eq!(sink.deliver(&message()).await, Ok(()));
    assert!(ResultsDbSink::new("a", "nonsense", None, Words::default()).is_err());
}
