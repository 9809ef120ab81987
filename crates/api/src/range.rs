//! Parts of files by `Range` (RFC 9110), one range at a time.

use crate::problem::Problem;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use std::ops::Range;

/// The bytes that a request asks for; `None` for all of them. Several ranges are answered with all.
pub(crate) fn wanted(headers: &HeaderMap, size_bytes: u64) -> Result<Option<Range<u64>>, Problem> {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else { return Ok(None) };
    let Some((from, to)) = spec.split_once('-') else { return Ok(None) };
    let range = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => from..to.saturating_add(1).min(size_bytes),
        (Ok(from), Err(_)) if to.trim().is_empty() => from..size_bytes,
        (Err(_), Ok(last)) if from.trim().is_empty() => size_bytes.saturating_sub(last)..size_bytes,
        _ => return Ok(None),
    };
    if range.start >= size_bytes {
        let detail = format!("there are {size_bytes} bytes; byte {} is past the end", range.start);
        return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail));
    }
    Ok(Some(range))
}

/// Says in the response which bytes it holds.
pub(crate) fn describe(response: &mut Response, range: Option<Range<u64>>, size_bytes: u64) {
    let length = range.as_ref().map_or(size_bytes, |range| range.end - range.start);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1);
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text: &str, expect: Result<Option<Range<u64>>, u16>| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(text).unwrap())]);
            assert_eq!(wanted(&headers, 10).map_err(|problem| problem.status), expect, "{text}");
        };
        check("bytes=0-3", Ok(Some(0..4)));
        check("bytes=4-", Ok(Some(4..10)));
        check("bytes=-3", Ok(Some(7..10)));
        check("bytes=5-99", Ok(Some(5..10)));
        check("bytes=10-", Err(416));
        check("bytes=3-1", Ok(None));
        check("bytes=0-1,3-4", Ok(None));
        check("lines=1-2", Ok(None));
    }
}
