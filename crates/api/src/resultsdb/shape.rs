//! What is answered, in ResultsDB's shapes.

use super::{BASE, Settings};
use axum::http::{HeaderMap, Uri, header};
use chrono::{DateTime, Timelike, Utc};
use model::{Outcome, outcome::words};
use serde_json::{Value, json};
use store::{Entry, ResultGroup, Testcase};

/// The address that links begin with: that by which the request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base(String);

impl Base {
    /// From the request's host; a proxy in front says which scheme the client used.
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST.as_str()).or_else(|| uri.authority().map(|host| host.as_str()));
        let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
        Self(format!("{scheme}://{}", host.unwrap_or("localhost")))
    }

    /// A configured address.
    pub(crate) fn at(url: &str) -> Self {
        Self(url.trim_end_matches('/').to_owned())
    }

    /// The address of a path of this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The address of a path below this interface; its parts are escaped.
    pub(crate) fn href(&self, parts: &[&str]) -> String {
        let mut href = format!("{}{BASE}", self.0);
        for part in parts {
            href.push('/');
            escape(part, "/:+@,!$&'()*;=", &mut href);
        }
        href
    }

    /// The address of a page of a list: that of the request, with this page.
    pub(crate) fn page(&self, path: &str, query: &str, page: u64) -> String {
        let page = format!("page={page}");
        let is_page = |part: &&str| part.starts_with("page=");
        let parts: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).collect();
        let at = parts.iter().position(is_page).unwrap_or(parts.len());
        let (before, after) = parts.split_at(at);
        let after = after.iter().copied().filter(|part| !is_page(part));
        let parts: Vec<&str> = before.iter().copied().chain([page.as_str()]).chain(after).collect();
        format!("{}{path}?{}", self.0, parts.join("&"))
    }
}

/// A text as a query or a path of ours holds it.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, "/:@,", &mut out);
    out
}

/// Escapes all but letters, digits, `-._~` and these.
fn escape(text: &str, kept: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// What an escaped text stands for; nothing when it is none.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                *hex::decode(digits).ok()?.first()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A time as Python's `isoformat` writes one without a zone.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    let form = if at.nanosecond() / 1000 == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
    at.format(form).to_string()
}

/// Our outcome in the words of this interface.
pub(crate) fn outcome(outcome: Outcome, settings: &Settings) -> &'static str {
    let extra: Vec<&str> = settings.extra_outcomes.iter().map(String::as_str).collect();
    words::resultsdb(outcome, &extra)
}

pub(crate) fn testcase(testcase: &Testcase, base: &Base) -> Value {
    json!({
        "href": base.href(&["testcases", &testcase.name]),
        "name": testcase.name,
        "ref_url": testcase.ref_url,
    })
}

pub(crate) fn group(group: &ResultGroup, base: &Base) -> Value {
    json!({
        "description": group.description,
        "href": base.href(&["groups", &group.id]),
        "ref_url": group.ref_url,
        "results": format!("{}?groups={}", base.href(&["results"]), escaped(&group.id)),
        "results_count": group.results,
        "uuid": group.id,
    })
}

/// A result. One that a task of ours reported leads to `native`, where it says more.
pub(crate) fn result(entry: &Entry, base: &Base, native: &Base, settings: &Settings) -> Value {
    let own = || entry.task.map(|_| native.url(&format!("/api/v1/results/{}", entry.id)));
    json!({
        "data": entry.data,
        "groups": entry.groups,
        "href": base.href(&["results", &entry.id.to_string()]),
        "id": entry.id.0,
        "note": entry.note,
        "outcome": entry.said.as_deref().unwrap_or_else(|| outcome(entry.outcome, settings)),
        "ref_url": entry.ref_url.clone().or_else(own),
        "submit_time": time(entry.at),
        "testcase": testcase(&entry.testcase, base),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_python_writes_them() {
        let check = |text: &str, expect: &str| {
            assert_eq!(time(text.parse().unwrap()), expect);
        };
        check("2026-11-21T00:35:59.896125Z", "2026-11-21T00:35:59.896125");
        check("2026-11-21T00:35:59.000000Z", "2026-11-21T00:35:59");
        check("2026-11-21T00:35:59.000001Z", "2026-11-21T00:35:59.000001");
    }

    #[test]
    fn links_are_those_of_the_request() {
        let headers = |list: &[(&'static str, &'static str)]| {
            list.iter()
                .map(|(name, value)| ((*name).parse().unwrap(), axum::http::HeaderValue::from_static(value)))
                .collect::<HeaderMap>()
        };
        let base = Base::of(&headers(&[("host", "qa.example.org")]), &Uri::from_static("/api/v2.0/results"));
        assert_eq!(
            base.href(&["testcases", "a/b c?"]),
            "http://qa.example.org/api/v2.0/testcases/a/b%20c%3F"
        );
        assert_eq!(
            base.href(&["testcases", "gtk+(a)*"]),
            "http://qa.example.org/api/v2.0/testcases/gtk+(a)*"
        );
        let check = |query: &str, expect: &str| {
            let expect = format!("http://qa.example.org/api/v2.0/results?{expect}");
            assert_eq!(base.page("/api/v2.0/results", query, 4), expect, "{query}");
        };
        check("", "page=4");
        check("item=gtk%2B-1+x&limit=2", "item=gtk%2B-1+x&limit=2&page=4");
        check("item=a&page=3&limit=2", "item=a&page=4&limit=2");
        check("page=3&&item=a&page=3", "page=4&item=a");
        let proxied = headers(&[("host", "qa.example.org"), ("x-forwarded-proto", "https")]);
        assert_eq!(Base::of(&proxied, &Uri::from_static("/")).href(&[]), "https://qa.example.org/api/v2.0");
    }
}
