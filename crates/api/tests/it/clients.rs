//! Clients that are slow or hostile.

use super::bed::{Bed, loopback};
use reqwest::Method;
use std::time::Duration;
use store::Role;
use taskbot_api::server::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Reads what the server says until it closes the connection.
async fn until_closed(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = socket.read_to_end(&mut said);
    // A reset is a close too.
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the server closes it");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn slow_heads_and_bodies_are_ended_while_others_are_served() {
    let limits = Limits {
        head: Duration::from_millis(300),
        body_grace: Duration::from_millis(300),
        connections: 8,
        ..Limits::default()
    };
    let bed = Bed::with(loopback(Role::Admin), limits).await;
    // More than there are places: those behind wait until the first are thrown out.
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut socket = TcpStream::connect(bed.address).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        slow.push(socket);
    }
    let ok = bed.request(Method::GET, "/healthz").timeout(Duration::from_secs(20)).send().await.unwrap();
    assert_eq!(ok.status(), 200);
    for socket in &mut slow {
        assert!(!until_closed(socket).await.contains(" 200 "));
    }
    for path in [
        "/api/v1/tasks",
        "/v1/job",
        "/api/v2.0/results",
        "/tasks/schedule",
        "/cancel_tasks",
        "/compat/paddles/runs/",
        "/submit",
    ] {
        let mut socket = TcpStream::connect(bed.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let said = until_closed(&mut socket).await;
        assert!(said.starts_with("HTTP/1.1 408") && said.contains("too slowly"), "{path}: {said}");
    }
    bed.end().await;
}

#[tokio::test]
async fn endless_heads_and_bodies_are_refused() {
    let bed = Bed::open().await;
    let mut socket = TcpStream::connect(bed.address).await.unwrap();
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}", "X-Much: 0123456789\r\n".repeat(100_000));
    let _ = socket.write_all(head.as_bytes()).await;
    assert!(!until_closed(&mut socket).await.contains(" 200 "));

    let mut socket = TcpStream::connect(bed.address).await.unwrap();
    let head = "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for _ in 0..64 {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let ok = bed.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(ok.status(), 200);
    bed.end().await;
}
