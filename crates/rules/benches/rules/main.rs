//! What an event costs against 10 to 10,000 rules: against parsing it, and against other engines.
//!
//! One thread, and its CPU time, so that other work on the machine matters little; the best of some passes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints what it measured"
)]

mod files;
mod peers;
mod random;
mod workload;

use nix::time::{ClockId, clock_gettime};
use rules::{Options, RuleFiles, RuleSet, compile};
use serde_json::{Value, json};
use std::{hint::black_box, time::Duration};
use taskbot_rules as rules;
use workload::{Rule, Workload};

/// How many rules, and how often about they match one event together.
const SIZES: [(usize, f64); 4] = [(10, 0.1), (100, 1.0), (1_000, 8.0), (10_000, 5.0)];
const PASSES: usize = 5;
/// How many events are judged rule by rule to check the matches.
const CHECKED_EVENTS: usize = 1_000;

fn main() {
    let workload = Workload::new();
    let parse = best(PASSES, || workload.events.iter().for_each(|event| drop(black_box(event.body()))))
        / events(&workload);
    print("parse into a value", parse, "µs/event", None);
    print("parse into a value, events", 1e6 / parse, "events/s", None);
    let mut costs = Vec::new();
    for (count, target) in SIZES {
        let rules = workload.rules(count, target);
        let files =
            RuleFiles::of(files::texts(&rules).iter().map(|(path, text)| (path.as_str(), text.as_str())));
        let mut set = None;
        let compiled = best(3, || set = Some(compile(&files, &Options::default()).unwrap().rule_set));
        let set = set.unwrap();
        print(&format!("{count} rules, compile"), compiled / 1e3, "ms", None);
        let mut matches = 0;
        let matching = best(PASSES, || matches = matching(&set, &workload)) / events(&workload);
        print(&format!("{count} rules, parse and match"), matching, "µs/event", Some(parse));
        assert_eq!(matches, naive(&rules, &workload, workload.events.len()));
        let cost = best(PASSES, || matches = matches_of(&set, &workload)) / events(&workload);
        costs.push(matching);
        print(&format!("{count} rules, parse, match and wish"), cost, "µs/event", Some(parse));
        print(&format!("{count} rules, events"), 1e6 / matching, "events/s", Some(1e6 / parse));
        check(&set, &rules, &workload, matches);
        print(
            &format!("{count} rules, matches"),
            number(matches),
            "matches",
            Some(number(naive(&rules, &workload, workload.events.len()))),
        );
        print(
            &format!("{count} rules, candidates"),
            candidates(&set, &workload) / events(&workload),
            "rules/event",
            None,
        );
        peers::measure(&workload, &rules, matching);
    }
    print("10,000 rules against 10", costs[3] / costs[0], "times", None);
}

fn events(workload: &Workload) -> f64 {
    number(workload.events.len())
}

#[expect(clippy::cast_precision_loss, reason = "some millions at most")]
pub(crate) const fn number(count: usize) -> f64 {
    count as f64
}

/// The time that this thread had on the processor.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// The shortest of some passes, in microseconds of the processor.
pub(crate) fn best(passes: usize, mut pass: impl FnMut()) -> f64 {
    let one = |_| {
        let start = cpu_time();
        pass();
        (cpu_time() - start).as_secs_f64() * 1e6
    };
    (0..passes).map(one).fold(f64::INFINITY, f64::min)
}

fn matches_of(set: &RuleSet, workload: &Workload) -> usize {
    let now = chrono::DateTime::UNIX_EPOCH;
    let evaluated = workload.events.iter().map(|event| black_box(set.evaluate(event, now).unwrap()));
    evaluated.map(|evaluation| evaluation.tasks.len()).sum()
}

/// What the peers do, too: which rules match.
fn matching(set: &RuleSet, workload: &Workload) -> usize {
    let now = chrono::DateTime::UNIX_EPOCH;
    let found = workload.events.iter().map(|event| black_box(set.matching(event, now).unwrap()));
    found.map(|rules| rules.len()).sum()
}

fn candidates(set: &RuleSet, workload: &Workload) -> f64 {
    let now = chrono::DateTime::UNIX_EPOCH;
    number(workload.events.iter().map(|event| set.evaluate(event, now).unwrap().candidates.len()).sum())
}

/// The matches of the first events by the plainest code.
pub(crate) fn naive(rules: &[Rule], workload: &Workload, events: usize) -> usize {
    let of_message = |message: &Value| rules.iter().filter(|rule| workload::holds(rule, message)).count();
    workload.messages.iter().take(events).map(of_message).sum()
}

/// The index must say what the rules say one by one.
fn check(set: &RuleSet, rules: &[Rule], workload: &Workload, matches: usize) {
    let now = chrono::DateTime::UNIX_EPOCH;
    for event in workload.events.iter().take(CHECKED_EVENTS) {
        let by_index = set.evaluate(event, now).unwrap();
        let one_by_one = set.evaluate_one_by_one(event, now).unwrap();
        assert_eq!((by_index.verdicts, by_index.tasks), (one_by_one.verdicts, one_by_one.tasks));
    }
    assert_eq!(matches, naive(rules, workload, workload.events.len()));
}

/// Prints one figure: with `--json` as an object, else for people.
pub(crate) fn print(name: &str, value: f64, unit: &str, floor: Option<f64>) {
    let ratio = floor.map(|floor| value / floor);
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", json!({"name": name, "value": value, "unit": unit, "floor": floor, "ratio": ratio}));
        return;
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    println!("{name:44} {value:12.2} {unit:12} {:>12} {:>9}", number(floor), number(ratio));
}
