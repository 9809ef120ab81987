//! Requests one after the other over one connection.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;

pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { http: reqwest::Client::new(), base: format!("http://{address}") }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> String {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> String {
        self.ask(Method::PUT, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> String {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        said(path, request.send().await.unwrap()).await
    }
}

async fn said(path: &str, answer: reqwest::Response) -> String {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success() && status != StatusCode::NO_CONTENT, "{path}: {status}: {text}");
    text
}
