//! A forge's word that the repository of the rules was pushed to. It carries no token: what it says is signed with a
//! secret that both sides know, and all that it can bring about is a look at the repository.

use crate::{problem::Problem, state::ApiState};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// The shortest secret in bytes.
pub const HOOK_SECRET_BYTES_MIN: usize = 16;
/// The largest body in bytes. Forges describe every commit of a push.
const HOOK_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Where forges put the signature, an HMAC by SHA-256 over the body: GitHub and others, Forgejo, Gitea, Pagure.
const SIGNATURES: [&str; 4] =
    ["x-hub-signature-256", "x-forgejo-signature", "x-gitea-signature", "x-pagure-signature-256"];
/// Where GitLab puts the secret itself.
const GITLAB_TOKEN: &str = "x-gitlab-token";

/// The secret of a webhook; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret(String);

impl HookSecret {
    /// A secret of at least [`HOOK_SECRET_BYTES_MIN`] bytes.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (text.len() >= HOOK_SECRET_BYTES_MIN).then_some(Self(text))
    }

    fn signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = header(GITLAB_TOKEN) {
            return token.as_bytes().ct_eq(self.0.as_bytes()).into();
        }
        let Some(signature) = SIGNATURES.iter().find_map(|name| header(name)) else { return false };
        let digits = signature.strip_prefix("sha256=").unwrap_or(signature);
        let (Ok(signature), Ok(mut mac)) =
            (hex::decode(digits), Hmac::<Sha256>::new_from_slice(self.0.as_bytes()))
        else {
            return false;
        };
        mac.update(body);
        mac.verify_slice(&signature).is_ok()
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(***)")
    }
}

pub(super) fn routes() -> Router<ApiState> {
    Router::new().route("/api/v1/rules/webhook", post(pushed)).layer(DefaultBodyLimit::max(HOOK_BYTES_MAX))
}

/// Has the repository looked at soon; a forge does not wait for what comes of it.
async fn pushed(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let secret = state.rules_hook().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no webhook is configured: `rules.webhook_secret_file`")
    })?;
    if !secret.signed(&headers, &body) {
        let detail = "the signature is missing or wrong: it must be an HMAC by SHA-256 over the body";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    }
    state.scheduler().wake().repository.ring();
    Ok((StatusCode::ACCEPTED, Json(json!({"looked_at": "soon"}))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn signatures_of_forges() {
        // The example of GitHub's documentation.
        let secret = HookSecret::new("It's a Secret to Everybody".to_owned()).unwrap();
        let body = b"Hello, World!";
        let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let check = |name: &'static str, value: &str, body: &[u8], expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            assert_eq!(secret.signed(&headers, body), expect, "{name}: {value}");
        };
        check("x-hub-signature-256", &format!("sha256={good}"), body, true);
        for name in SIGNATURES {
            check(name, good, body, true);
            check(name, good, b"Hello, World?", false);
            check(name, &good.replace('7', "8"), body, false);
            check(name, "", body, false);
            check(name, "no digits", body, false);
        }
        check("x-gitlab-token", "It's a Secret to Everybody", body, true);
        check("x-gitlab-token", "It's a Secret to", body, false);
        check("x-hub-signature", &format!("sha1={good}"), body, false);
        assert!(!secret.signed(&HeaderMap::new(), body));
        assert_eq!(HookSecret::new("short".to_owned()), None);
        assert!(!format!("{secret:?}").contains("Everybody"));
    }
}
