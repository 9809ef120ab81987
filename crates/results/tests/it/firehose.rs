//! Firehose, as XML and as JSON.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Firehose, document), expect, "\n{document}");
}

fn xml(results: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='utf-8'?>\n<analysis><metadata><generator name=\"cpychecker\" version=\"0.11\"/><sut><source-rpm name=\"ethtool\" version=\"0.7\" release=\"4\" build-arch=\"x86_64\"/></sut><file given-path=\"whole.c\"/></metadata><results>{results}</results></analysis>"
    )
}

fn json(results: &str) -> String {
    format!(
        r#"{{"metadata": {{"generator": {{"name": "cpychecker", "version": "0.11"}}, "sut": null, "file_": null, "stats": null}},
  "customfields": null, "results": [{results}]}}"#
    )
}

const ISSUE: &str = "  failed refcount-too-high (ob_refcnt of 'item' is 1 too high) column=15 cwe=401 file=src/a.c function=bar kind=issue line=10 rule=refcount-too-high <<it was 1|b.c:7: called here|?:?:>>";

#[test]
fn issues() {
    check(
        &xml(r#"<issue cwe="401" test-id="refcount-too-high">
  <message>ob_refcnt of 'item' is 1 too high</message>
  <notes>it was 1</notes>
  <location><file given-path="src/a.c" absolute-path="/b/src/a.c"><hash alg="sha1" hexdigest="00"/></file><function name="bar"/><point line="10" column="15"/></location>
  <trace><state><location><file given-path="b.c"/><point line="7" column="1"/></location><notes>called here</notes></state><state><location/></state></trace>
</issue>"#),
        &format!("failed cpychecker version=0.11\n{ISSUE}"),
    );
    check(
        &json(
            r#"{"type": "Issue", "cwe": 401, "testid": "refcount-too-high", "severity": null, "customfields": null,
      "location": {"file": {"givenpath": "src/a.c", "abspath": null, "hash_": null}, "function": {"name": "bar"}, "point": {"line": 10, "column": 15}, "range_": null},
      "message": {"text": "ob_refcnt of 'item' is 1 too high"}, "notes": {"text": "it was 1"},
      "trace": {"states": [{"location": {"file": {"givenpath": "b.c"}, "function": null, "point": {"line": 7, "column": 1}}, "notes": {"text": "called here"}}, {"location": null, "notes": null}]}}"#,
        ),
        &format!("failed cpychecker version=0.11\n{ISSUE}"),
    );
    check(
        &xml(
            r#"<issue severity="style"><message>m</message><location><file given-path="a"/><range><point line="1" column="2"/><point line="3" column="4"/></range></location></issue>
               <issue severity="warning"><message>m</message><location/></issue><issue severity="Critical"><message>m</message><location/></issue>"#,
        ),
        "failed cpychecker version=0.11
  info issue (m) column=2 file=a kind=issue line=1 rule=issue severity=style
  needs_inspection issue (m) kind=issue rule=issue severity=warning
  failed issue (m) kind=issue rule=issue severity=Critical",
    );
    check(&xml(""), "passed cpychecker version=0.11");
    check(&json(""), "passed cpychecker version=0.11");
}

#[test]
fn failures_and_information() {
    let expect = "error(task) cpychecker version=0.11
  error(task) bad-exit-code (Bad exit code) kind=failure returncode=-9 rule=bad-exit-code stderr=killed
  info info (42 lines) kind=info rule=info";
    check(
        &xml(
            r#"<failure failure-id="bad-exit-code"><message>Bad exit code</message><custom-fields><int-field name="returncode" value="-9"/><str-field name="stderr">killed</str-field></custom-fields></failure>
               <info><message>42 lines</message></info>"#,
        ),
        expect,
    );
    check(
        &json(
            r#"{"type": "Failure", "failureid": "bad-exit-code", "location": null, "message": {"text": "Bad exit code"}, "customfields": {"returncode": -9, "stderr": "killed"}},
               {"type": "Info", "infoid": null, "location": null, "message": {"text": "42 lines"}, "customfields": null}"#,
        ),
        expect,
    );
}

#[test]
fn mistakes() {
    let begins = |document: &str, expect: &str| {
        let shown = shown(ResultFormat::Firehose, document);
        assert!(shown.starts_with(expect), "{document}\n{shown}");
    };
    begins("", "results:1: the document is empty");
    begins("<results/>", "results:1: the root element is <results>; expected Firehose's `analysis`");
    begins("<analysis>\n</analysis>", "results:2: the analysis has no `metadata/generator`");
    begins(
        "<analysis><metadata><generator name='a'/></metadata></analysis>",
        "results:1: the analysis has no `results`",
    );
    begins(&xml("\n<warning/>"), "results:3: <warning> inside of <results>; a result is an <issue>,");
    begins(
        &format!("<!DOCTYPE x [<!ENTITY a 'b'>]>{}", &xml("")[38..]),
        "results:1: a document type is not read",
    );
    begins("{}", "results:1:2: missing field `metadata`");
    begins(&json(r#"{"type": "Warning"}"#), "results:2:54: unknown variant `Warning`");
    begins(&json(r#"{"testid": "a"}"#), "results:2:");
    for whole in
        [xml("<issue><message>m</message></issue>"), json(r#"{"type": "Issue", "message": {"text": "m"}}"#)]
    {
        for cut in 1..whole.len() {
            assert!(
                shown(ResultFormat::Firehose, &whole[..cut]).starts_with("results:"),
                "{}",
                &whole[..cut]
            );
        }
    }
}
