//! Scripts that want too much end soon, and hold little memory while they run.

use super::*;
use nix::time::{ClockId, clock_gettime};

/// Twice what the backstop allows: an operation may be under way when the time is over.
const END_MAX: Duration = Duration::from_millis(200);
/// The most that the process may grow.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often something that takes time may be tried: the fastest counts.
const TRIES: usize = 5;

/// An event as large as they may be, of the shapes that bombs multiply.
fn large() -> Value {
    let list: Vec<_> = (0..9_000).map(|n| json!({"n": n, "text": "x".repeat(100)})).collect();
    let texts: Vec<_> = (0..9_000).map(|n| format!("{n:020}")).collect();
    json!({
        "topic": "t", "source": "s", "headers": {},
        "body": {"list": list, "texts": texts, "long": "y".repeat(200_000), "numbers": (0..9_000).collect::<Vec<_>>()},
    })
}

/// What this process holds, or held at most since [`forget_peak`] (`VmRSS`, `VmHWM`), in bytes.
fn memory_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
}

/// What this thread had of the processor: machines do other things too.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux").into()
}

const BOMBS: [(&str, ErrorKind); 20] = [
    ("event.body.numbers.map(|x| event.body.numbers.map(|y| x + y))", ErrorKind::Operations),
    (
        "event.body.numbers.filter(|x| event.body.numbers.some(|y| event.body.numbers.some(|z| false)))",
        ErrorKind::Operations,
    ),
    ("event.body.numbers.map(|x| event.body.long + x)", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| event.body.list.extract(0))", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| event)", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| [event.body.list, event.body.list])", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| event.body.list.map(|y| event))", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| event.to_json())", ErrorKind::TooLarge),
    ("event.body.numbers.map(|x| `${event.body}`)", ErrorKind::TooLarge),
    ("event.body.long.replace(\"y\", event.body.long)", ErrorKind::TooLarge),
    ("event.body.long.split(\"\")", ErrorKind::TooLarge),
    ("event.body.long + event.body.long", ErrorKind::TooLarge),
    ("event.body.texts.join(event.body.long)", ErrorKind::TooLarge),
    ("event.body.numbers.reduce(|all, x| all + event.body.texts, [])", ErrorKind::TooLarge),
    ("event.body.numbers.reduce(|all, x| all + all, \"ab\")", ErrorKind::TooLarge),
    ("event.body.numbers.reduce(|all, x| [all, all], [])", ErrorKind::TooLarge),
    ("event.body.numbers.reduce(|all, x| #{a: all, b: all}, 1)", ErrorKind::TooLarge),
    ("event.body.list + event.body.list", ErrorKind::TooLarge),
    ("event", ErrorKind::TooLarge),
    (
        "event.body.numbers.map(|x| event.body.texts.order().join(\"\").len() + event.body.texts.unique().len())",
        ErrorKind::Timeout,
    ),
];

#[test]
fn bombs_end_soon_and_stay_small() {
    let engine = engine();
    let scope = Scope::new(&large(), now());
    for (source, kind) in BOMBS {
        let script = engine.compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        forget_peak();
        let before = memory_bytes("VmRSS");
        let mut took = Duration::MAX;
        for _ in 0..TRIES {
            let start = processor_time();
            let error = script.eval(&engine, &scope).map(|_| ()).expect_err(source);
            took = took.min(processor_time() - start);
            // A slow machine may reach the backstop first, and an optimised build the count of operations.
            let other = matches!(error.kind, ErrorKind::Timeout | ErrorKind::Operations);
            assert!(error.kind == kind || other, "{source}: {error:?}");
            if took < END_MAX {
                break;
            }
        }
        assert!(took < END_MAX, "{source} took {took:?}");
        let grown = memory_bytes("VmHWM").saturating_sub(before);
        assert!(grown < GROWTH_BYTES_MAX, "{source} grew by {grown} bytes");
    }
}

#[test]
fn large_events_are_read_at_no_cost() {
    let engine = engine();
    let scope = Scope::new(&large(), now());
    for source in [
        "event.body.list.some(|x| x.n == 999 && event.body.numbers.len() == 9_000)",
        "event.body.list.extract(8_000).filter(|x| x.n > 8_990).len() == 9",
        "event.body.long.len() == 200_000 && event.body.long.starts_with(\"y\")",
        "event.body.texts.contains(\"00000000000000008999\")",
        "event.body.list.len() == 9_000 && event.body.list[8_999].n == 8_999",
    ] {
        let script = engine.compile(source).expect(source);
        let mut tries = (0..TRIES).map(|_| script.eval_bool(&engine, &scope));
        let stalled = |tried: &Result<bool, ScriptError>| {
            tried.as_ref().is_err_and(|error| error.kind == ErrorKind::Timeout)
        };
        let first =
            tries.find(|tried| !stalled(tried)).unwrap_or_else(|| panic!("{source} always takes too long"));
        assert_eq!(first, Ok(true), "{source}");
    }
}

#[test]
fn what_is_nested_too_deep_or_too_long_does_not_compile() {
    let engine = engine();
    for source in [
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
        format!("{}1{}", "[".repeat(200), "]".repeat(200)),
        format!("{}true", "!".repeat(5_000)),
        format!("1{}", "+1".repeat(5_000)),
        format!("event{}", ".a".repeat(5_000)),
        format!("[{}]", "|x| x,".repeat(100)),
        "x".repeat(20_000),
        format!("\"{}\"", "x".repeat(20_000)),
        format!("{}x{}", "[1].map(|x| ".repeat(100), ")".repeat(100)),
    ] {
        let error = engine.compile(&source).map(|_| ()).expect_err(&source[..40]);
        assert_eq!(error.kind, ErrorKind::Parse);
    }
}
