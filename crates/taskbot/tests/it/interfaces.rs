//! Interfaces of other systems: switched off, and by themselves on an address of their own.

use crate::support::Up;
use std::{fs, net::TcpListener};

/// A server with this said of ResultsDB's interface.
fn start(resultsdb: &str) -> Up {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    let more = format!("interfaces: {{resultsdb: {resultsdb}}}\n");
    Up::start_configured(folder, &more, "127.0.0.1:0", &["--no-worker"])
}

/// The status of an answer, and its text.
fn get(url: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn an_interface_can_be_switched_off() {
    let up = start("{enabled: false}");
    assert_eq!(get(&format!("{}/api/v2.0/results", up.url)).0, 404);
    assert_eq!(get(&format!("{}/api/v1/results", up.url)).0, 200);
    let described = get(&format!("{}/api/v1/openapi.json", up.url)).1;
    assert!(described.contains("/api/v1/results") && !described.contains("/api/v2.0/results"));
}

#[test]
fn an_interface_can_have_an_address_of_its_own() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let up = start(&format!("{{listen: \"127.0.0.1:{port}\", extra_outcomes: [CRASHED]}}"));
    let own = format!("http://127.0.0.1:{port}");
    for base in [&up.url, &own] {
        let (status, text) = get(&format!("{base}/api/v2.0/results?outcome=passed"));
        assert_eq!((status, text.contains("data")), (200, true), "{base}: {text}");
        let (status, text) = get(&format!("{base}/api/v2.0/"));
        assert!(status == 300 && text.contains("CRASHED"), "{base}: {text}");
    }
    assert_eq!(get(&format!("{own}/api/v1/results")).0, 404, "only the one interface is there");
}
