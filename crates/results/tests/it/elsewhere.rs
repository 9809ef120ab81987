//! Results read from a ResultsDB elsewhere, by a real HTTP server.

use super::sinks::answer;
use model::retest::{Refused, ResultsElsewhere};
use taskbot_results::elsewhere::ResultsDbElsewhere;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_result_is_found_by_its_number_or_url() {
    for (with, expect) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 7}", "found 7"),
        ("HTTP/1.1 404 NOT FOUND\r\ncontent-length: 2\r\n\r\n{}", "none"),
        ("HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n", "away"),
        ("HTTP/1.1 302 Over\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "wrong"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<!", "wrong"),
    ] {
        for id in ["7", "{base}/results/7"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base = format!("http://{}/api/v2.0", listener.local_addr().unwrap());
            let place = ResultsDbElsewhere::new(&base).unwrap();
            let id = id.replace("{base}", &base);
            let (found, request) = tokio::join!(place.result(&id), answer(listener, with));
            assert!(request.starts_with("GET /api/v2.0/results/7 HTTP/1.1"), "{request}");
            let got = match found {
                Ok(Some(result)) => format!("found {}", result["id"]),
                Ok(None) => "none".to_owned(),
                Err(Refused::Away(_)) => "away".to_owned(),
                Err(Refused::Wrong(_)) => "wrong".to_owned(),
            };
            assert_eq!(got, expect, "{id} {with}");
        }
    }
}

#[tokio::test]
async fn only_its_own_numbers_are_asked_for() {
    let place = ResultsDbElsewhere::new("http://127.0.0.1:1/api/v2.0").unwrap();
    for id in [
        "https://other.example.org/results/7",
        "../7",
        "7?x=1",
        "",
        "http://127.0.0.1:1/api/v2.0/results/../7",
    ] {
        assert_eq!(place.result(id).await, Ok(None), "{id}");
    }
    assert!(matches!(place.result("7").await, Err(Refused::Away(_))));
    assert!(ResultsDbElsewhere::new("nonsense").is_err());
}
