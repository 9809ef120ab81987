//! The requests that are measured.

use crate::{
    client::Client,
    database::Database,
    fill::{SAMPLE_ITEM, SAMPLE_QUEUE, SAMPLE_RESULTS, SAMPLE_RUN},
    program::Program,
};
use futures_util::{StreamExt as _, stream};
use model::{Ids, SystemIds};
use serde_json::{Value, json};
use std::{ops::Range, time::Duration};

/// How often each request is made by one client; the kernel's account is too coarse for few.
const ROUNDS: usize = 400;
/// How often each writing request is made by several.
const ROUNDS_AT_ONCE: usize = 2_000;
/// How many clients write at a time, then.
const CLIENTS: usize = 16;
/// How often before, unmeasured: statements are prepared, connections open.
const WARM_UP: usize = 20;
/// How soon what follows from requests is looked for again.
const SETTLES_WITHIN: Duration = Duration::from_millis(5);
/// How many different requests of a kind there are.
const ALL: usize = WARM_UP + ROUNDS + WARM_UP * CLIENTS + ROUNDS_AT_ONCE;

/// Ends the names of requests whose answers are so large that a tenth as many are enough.
const LARGE: &str = "5,000 jobs";
/// How many jobs a run has.
const JOBS: (usize, usize) = (150, 5_000);

/// What a request costs.
pub(crate) struct Cost {
    pub(crate) name: String,
    /// What the program that is replaced took, in milliseconds of the processor with its database's; see
    /// `docs/performance.md`.
    pub(crate) replaced_ms: Option<f64>,
    pub(crate) cpu_ms: f64,
}

/// Measures one kind of request after the other.
struct Measuring<'a> {
    program: &'a Program,
    database: &'a Database,
    costs: Vec<Cost>,
}

impl Measuring<'_> {
    /// Makes a reading request for each number.
    async fn read<F: Future<Output = String>>(
        &mut self,
        name: &str,
        replaced_ms: Option<f64>,
        request: impl Fn(usize) -> F,
    ) -> Vec<String> {
        let rounds = if name.ends_with(LARGE) { ROUNDS / 10 } else { ROUNDS };
        self.each(name.to_owned(), replaced_ms, (0, WARM_UP, rounds), 1, request).await
    }

    /// Makes a writing request for each number below [`ALL`]: one after the other, then many at a time.
    async fn write<F: Future<Output = String>>(
        &mut self,
        name: &str,
        replaced_ms: Option<f64>,
        request: impl Fn(usize) -> F,
    ) -> Vec<String> {
        let alone = (0, WARM_UP, ROUNDS);
        let mut answers = self.each(name.to_owned(), replaced_ms, alone, 1, &request).await;
        let together = (WARM_UP + ROUNDS, WARM_UP * CLIENTS, ROUNDS_AT_ONCE);
        let name = format!("{name}, {CLIENTS} at once");
        answers.extend(self.each(name, replaced_ms, together, CLIENTS, &request).await);
        answers
    }

    /// Makes requests by so many clients from a number on: some unmeasured, then the others.
    async fn each<F: Future<Output = String>>(
        &mut self,
        name: String,
        replaced_ms: Option<f64>,
        (from, warm_up, rounds): (usize, usize, usize),
        clients: usize,
        request: impl Fn(usize) -> F,
    ) -> Vec<String> {
        let of =
            |numbers: Range<usize>| stream::iter(numbers).map(&request).buffered(clients).collect::<Vec<_>>();
        let mut answers = of(from..from + warm_up).await;
        self.settled().await;
        let before = self.program.taken(self.database).await;
        let measured = of(from + warm_up..from + warm_up + rounds).await;
        self.settled().await;
        let after = self.program.taken(self.database).await;
        answers.extend(measured);
        let rounds = f64::from(u32::try_from(rounds).unwrap());
        self.costs.push(Cost { name, replaced_ms, cpu_ms: after.ms_since(&before) / rounds });
        answers
    }

    /// Waits until what follows from requests has been done as well: all is judged and published.
    async fn settled(&self) {
        let sql = "select exists (select 1 from event where hold_until is not null) \
            or exists (select 1 from outbox where position is null) \
            or exists (select 1 from outbox where position is not null and published_at is null)";
        while sqlx::query_scalar::<_, bool>(sql).fetch_one(&self.database.pool).await.unwrap() {
            tokio::time::sleep(SETTLES_WITHIN).await;
        }
    }
}

/// What [`crate::fill`] copies: results of one item in many testcases, and a job that has ended.
pub(crate) async fn sample(client: &Client) {
    for testcase in 0..SAMPLE_RESULTS {
        client.post("/api/v2.0/results", &result(SAMPLE_ITEM, testcase)).await;
    }
    let job =
        client.post("/v1/job", &json!({"job_queue": SAMPLE_QUEUE, "test_data": {"test_cmds": "true"}})).await;
    let id = job_id(&job);
    client.get(&format!("/v1/job?queue={SAMPLE_QUEUE}")).await;
    client.post(&format!("/v1/result/{id}"), &json!({"status": {"test": 0}, "job_state": "complete"})).await;
    let mut done = self::job(1);
    done["status"] = "pass".into();
    client.post(&format!("/compat/paddles/runs/{SAMPLE_RUN}/jobs/"), &done).await;
}

pub(crate) async fn all(client: &Client, program: &Program, database: &Database) -> Vec<Cost> {
    let mut measuring = Measuring { program, database, costs: Vec::new() };
    measuring.read("bare: a request that reads nothing", None, |_| client.get("/compat/paddles/")).await;
    testflinger(client, &mut measuring).await;
    resultsdb(client, &mut measuring).await;
    paddles(client, &mut measuring).await;
    measuring.costs
}

async fn testflinger(client: &Client, measuring: &mut Measuring<'_>) {
    let job = json!({
        "job_queue": "bench",
        "tags": ["bench"],
        "provision_data": {"url": "https://images.example.org/one.img.xz"},
        "test_data": {"test_cmds": "uname -a"},
    });
    measuring.write("Testflinger: submit a job", None, |_| client.post("/v1/job", &job)).await;
    let handed =
        measuring.write("Testflinger: hand a job out", None, |_| client.get("/v1/job?queue=bench")).await;
    let ids: Vec<_> = handed.iter().map(|job| job_id(job)).collect();
    let lines = "a line of the output of a test, as long as most of them are\n".repeat(20);
    let fragment = json!({
        "fragment_number": 0, "timestamp": "2026-01-01T00:00:00+00:00", "phase": "test", "log_data": lines,
    });
    let paths: Vec<_> = ids.iter().map(|id| format!("/v1/result/{id}/log/output")).collect();
    measuring.write("Testflinger: a fragment of a log", None, |at| client.post(&paths[at], &fragment)).await;
    let result = json!({"status": {"setup": 0, "provision": 0, "test": 0}, "job_state": "complete"});
    let paths: Vec<_> = ids.iter().map(|id| format!("/v1/result/{id}")).collect();
    measuring.write("Testflinger: a job's result", None, |at| client.post(&paths[at], &result)).await;
}

async fn resultsdb(client: &Client, measuring: &mut Measuring<'_>) {
    let bodies: Vec<_> =
        (0..).take(ALL).map(|at| result(&format!("other-{}.0-1.fc42", at / 40), at % 40)).collect();
    let post = |at: usize| client.post("/api/v2.0/results", &bodies[at]);
    measuring.write("ResultsDB: report a result", Some(12.7), post).await;
    let latest = format!("/api/v2.0/results/latest?item={SAMPLE_ITEM}&type=koji_build");
    let answers =
        measuring.read("ResultsDB: latest of 40 testcases", Some(92.0), |_| client.get(&latest)).await;
    assert_eq!(data(&answers[0]).len(), usize::try_from(SAMPLE_RESULTS).unwrap());
    let distinct = format!("{latest}&_distinct_on=scenario,system_architecture,system_variant");
    let answers =
        measuring.read("ResultsDB: latest, _distinct_on", Some(86.0), |_| client.get(&distinct)).await;
    assert_eq!(data(&answers[0]).len(), usize::try_from(SAMPLE_RESULTS).unwrap());
}

async fn paddles(client: &Client, measuring: &mut Measuring<'_>) {
    let small = run_with_jobs(client, "small", JOBS.0).await;
    measuring.read("paddles: a run with 150 jobs", Some(437.0), |_| client.get(&small)).await;
    let large = run_with_jobs(client, "large", JOBS.1).await;
    measuring.read("paddles: a run with 5,000 jobs", None, |_| client.get(&large)).await;
    let jobs = format!("{large}jobs/");
    let bodies: Vec<_> = (0..ALL).map(|at| job(JOBS.1 + at)).collect();
    let post = |at: usize| client.post(&jobs, &bodies[at]);
    measuring.write("paddles: a new job in a run with thousands", Some(13.5), post).await;
    let paths: Vec<_> = (0..ALL).map(|at| format!("{jobs}{at}/")).collect();
    let status = json!({"status": "running"});
    measuring
        .write("paddles: a job's status in a run with thousands", Some(15.7), |at| {
            client.put(&paths[at], &status)
        })
        .await;
    measuring.read("paddles: a job", Some(25.1), |at| client.get(&paths[at])).await;
}

/// The path of a new run with so many jobs.
async fn run_with_jobs(client: &Client, name: &str, jobs: usize) -> String {
    let unique = SystemIds.next().simple();
    let run = format!("me-2026-11-20_10:00:00-rados-main-distro-{name}{unique}-smithi");
    client.post("/compat/paddles/runs/", &json!({"name": run})).await;
    let path = format!("/compat/paddles/runs/{run}/");
    let to = format!("{path}jobs/");
    let (bodies, to) = (&(0..jobs).map(job).collect::<Vec<_>>(), &to);
    let post = |at: usize| async move { drop(client.post(to, &bodies[at]).await) };
    stream::iter(0..jobs).for_each_concurrent(CLIENTS, post).await;
    path
}

fn job(number: usize) -> Value {
    json!({
        "job_id": number.to_string(), "status": "queued", "queue": "smithi", "machine_type": "smithi",
        "suite": "rados", "branch": "main", "sha1": "0123456789abcdef0123456789abcdef01234567", "user": "me",
        "description": "rados/basic/{clusters/fixed-2 tasks/rados_api_tests}",
    })
}

fn result(item: &str, testcase: i64) -> Value {
    json!({
        "testcase": format!("bench.case-{testcase}"),
        "outcome": "PASSED",
        "note": "12 checks passed",
        "data": {
            "item": item, "type": "koji_build", "scenario": "minimal", "system_architecture": "x86_64",
        },
    })
}

fn job_id(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["job_id"].as_str().expect("a job has an id").to_owned()
}

fn data(answer: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["data"].as_array().cloned().unwrap_or_default()
}
