//! Who asks: as everywhere, and in the two ways that its clients have: a name and a password, and a field of the body.
//! What is no token of somebody who is believed here is left alone, as ResultsDB did.

use crate::{
    auth::{TOKEN_PREFIX, bearer},
    problem::Problem,
};
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// The largest body that is looked into for a token, in bytes.
const LOOKED_INTO_BYTES_MAX: usize = 64 * 1024;
/// The field of a body that is its sender's token.
const FIELD: &str = "_auth_token";

/// The token that a request shows, and the request.
pub(crate) async fn token_of(request: Request) -> Result<(Option<String>, Request), Problem> {
    let headers = request.headers();
    if let Some(pair) = basic(headers) {
        let password = pair.split_once(':').map(|(_, password)| password.to_owned());
        if let Some(token) = password.filter(|text| is_token(text)) {
            return Ok((Some(token), request));
        }
    } else if headers.contains_key(header::AUTHORIZATION) {
        let token = bearer(headers)?.map(str::to_owned);
        return Ok((token, request));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if request.method() != Method::POST || length.is_none_or(|length: usize| length > LOOKED_INTO_BYTES_MAX) {
        return Ok((None, request));
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LOOKED_INTO_BYTES_MAX).await.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
    })?;
    let token = of_body(&body);
    Ok((token, Request::from_parts(parts, Body::from(body))))
}

/// `NAME:PASSWORD`
fn basic(headers: &HeaderMap) -> Option<String> {
    let (scheme, pair) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(pair.trim()).unwrap_or_default();
    Some(String::from_utf8_lossy(&pair).into_owned())
}

fn of_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "_auth_token")]
        token: Option<String>,
    }
    // Most say nothing, and need not be read for it.
    if !body.windows(FIELD.len()).any(|part| part == FIELD.as_bytes()) {
        return None;
    }
    serde_json::from_slice::<Said>(body).ok()?.token.filter(|text| is_token(text))
}

/// Whether a text looks like a token: one of ours, or one that is signed.
fn is_token(text: &str) -> bool {
    text.starts_with(TOKEN_PREFIX) || (text.starts_with("ey") && text.matches('.').count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_stand_where_clients_put_them() {
        let check = async |method: Method, authorization: Option<&str>, body: &str, expect: Option<&str>| {
            let mut request =
                Request::builder().method(method).header(header::CONTENT_LENGTH, body.len().to_string());
            if let Some(text) = authorization {
                request = request.header(header::AUTHORIZATION, text);
            }
            let request = request.body(Body::from(body.to_owned())).unwrap();
            let (token, request) = token_of(request).await.unwrap();
            assert_eq!(token.as_deref(), expect, "{authorization:?} {body}");
            assert_eq!(to_bytes(request.into_body(), 1 << 20).await.unwrap(), body);
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let said = r#"{"_auth_token": "tb_1_2", "outcome": "PASSED"}"#;
        check(Method::POST, None, said, Some("tb_1_2")).await;
        check(Method::GET, None, said, None).await;
        check(Method::POST, Some("Bearer tb_3_4"), said, Some("tb_3_4")).await;
        check(Method::POST, Some(&basic("me:tb_5_6")), said, Some("tb_5_6")).await;
        check(Method::POST, Some(&basic("me:password")), said, Some("tb_1_2")).await;
        check(Method::GET, Some(&basic("me:ey1.ey2.x")), "", Some("ey1.ey2.x")).await;
        check(Method::GET, Some(&basic("me:password")), "", None).await;
        check(Method::GET, Some("Basic !"), "", None).await;
        for other in
            ["", "{", r#"{"_auth_token": null}"#, r#"{"_auth_token": "x"}"#, r#"{"note": "_auth_token"}"#]
        {
            check(Method::POST, None, other, None).await;
        }
        let long = format!(r#"{{"_auth_token": "tb_1_2", "note": "{}"}}"#, "x".repeat(LOOKED_INTO_BYTES_MAX));
        check(Method::POST, None, &long, None).await;
    }
}
