//! A webhook: each message is posted as a CloudEvent, signed.

use super::http;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use model::{
    message::{Message, NewMessage},
    sink::{Sink, SinkError},
    topic::TopicPattern,
};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use sha2::Sha256;

/// The header with the signature over the body: `sha256=` and the HMAC in hexadecimal, as GitHub's webhooks have it.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";

/// A URL that messages are posted to.
#[derive(Debug)]
pub struct WebhookSink {
    name: String,
    url: Url,
    secret: Option<Secret>,
    topics: Vec<TopicPattern>,
    installation: String,
    client: Client,
}

/// What signs; never shown.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl WebhookSink {
    /// The URL, for messages of these topics. With a secret each body is signed. `installation` is what ids and source
    /// begin with, as on the bus.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(
        name: &str,
        url: &str,
        secret: Option<String>,
        topics: Vec<TopicPattern>,
        installation: &str,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            url,
            secret: secret.map(Secret),
            topics,
            installation: installation.to_owned(),
            client: http::client()?,
        })
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, message: &NewMessage) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(&message.topic))
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let body = cloud_event(message, &self.installation).to_string().into_bytes();
        let mut request = self.client.post(self.url.clone());
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE_HEADER, signature(&secret.0, &body));
        }
        let content_type = "application/cloudevents+json; charset=utf-8";
        http::send(request.header(reqwest::header::CONTENT_TYPE, content_type).body(body)).await
    }
}

/// `sha256=` and the HMAC of a body.
fn signature(secret: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A message in CloudEvents' structured form, with the id and source that it has on the bus.
fn cloud_event(message: &Message, installation: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("{installation}/{}", message.id),
        "source": format!("taskbot/{installation}"),
        "type": message.message.topic,
        "subject": message.message.subject,
        "time": message.created_at,
        "datacontenttype": "application/json",
        "traceparent": message.message.traceparent,
        "data": message.message.data.value(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_others() {
        // From GitHub's documentation of webhooks.
        assert_eq!(
            signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
