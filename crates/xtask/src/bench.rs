//! `cargo xtask bench`: measurements against a bare program that does the same, in the same run.
//!
//! A benchmark is a `[[bench]]` target with `harness = false` of any crate. With `--json` it prints one object
//! a line: what was measured, the figure, its unit, the bare program's figure and the ratio of the two.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::services::{Exports, Services};
use crate::shell::Shell;
use crate::workspace::Workspace;

/// One line of a benchmark's output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    name: String,
    value: f64,
    unit: String,
    /// What the bare program reaches, in the same unit; none where there is nothing to compare with.
    floor: Option<f64>,
    /// `value` to `floor`.
    ratio: Option<f64>,
}

/// Whether all benchmarks ran. `name` is one of them; all, when none is given.
pub(crate) fn run(shell: &Shell, workspace: &Workspace, name: Option<&str>, json: bool) -> Result<bool> {
    let benches = workspace.benches();
    let chosen: Vec<_> = benches.iter().filter(|(_, bench)| name.is_none_or(|name| name == *bench)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = benches.iter().map(|&(_, bench)| bench).collect();
        match name {
            Some(name) => bail!("there is no benchmark `{name}`; there are: {}", names.join(", ")),
            None => bail!("there is no benchmark in this workspace"),
        }
    }
    let services = Services::start(shell, workspace)?;
    if !json {
        println!("{}", row("", "value", "unit", "floor", "ratio"));
    }
    let passed: Result<bool> = chosen.into_iter().try_fold(true, |passed, (package, bench)| {
        Ok(run_one(shell, workspace, services.exports(), package, bench, json)? && passed)
    });
    let clean = shell.nothing_left("benchmarks");
    Ok(passed? && clean)
}

/// Builds and runs one benchmark and shows each line as it comes.
fn run_one(
    shell: &Shell,
    workspace: &Workspace,
    exports: &Exports,
    package: &str,
    bench: &str,
    json: bool,
) -> Result<bool> {
    let mut command = workspace.cargo();
    command.args(["bench", "--package", package, "--bench", bench, "--", "--json"]);
    command.envs(exports.iter().map(|(name, value)| (name, value))).stdout(Stdio::piped());
    let mut child = shell.spawn(&mut command)?;
    let output = child.stdout.take().context("the output is piped")?;
    let reader = thread::spawn(move || -> Result<usize> {
        let mut count = 0;
        for line in BufReader::new(output).lines() {
            let line = line?;
            let measured = parse(&line)?;
            count += 1;
            if json {
                println!("{line}");
            } else {
                println!("{}", table_row(&measured));
            }
        }
        Ok(count)
    });
    let status = shell.wait(child)?;
    let measured = match reader.join() {
        Ok(measured) => measured.with_context(|| format!("benchmark {bench}"))?,
        Err(_) => bail!("reading the output of benchmark {bench} panicked"),
    };
    if !status.success() {
        eprintln!("error: benchmark {bench} ended with {status}");
    } else if measured == 0 {
        eprintln!("error: benchmark {bench} measured nothing");
    }
    Ok(status.success() && measured > 0)
}

fn parse(line: &str) -> Result<Measurement> {
    let shape = r#"{"name", "value", "unit", "floor", "ratio"}"#;
    serde_json::from_str(line).with_context(|| format!("`{line}` is not a line of the form {shape}"))
}

fn table_row(measured: &Measurement) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    let value = number(Some(measured.value));
    row(&measured.name, &value, &measured.unit, &number(measured.floor), &number(measured.ratio))
}

fn row(name: &str, value: &str, unit: &str, floor: &str, ratio: &str) -> String {
    format!("{name:44} {value:>12} {unit:12} {floor:>12} {ratio:>7}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_benchmarks() {
        let check = |line: &str, expect: &str| {
            let shown = parse(line).map_or_else(|error| error.to_string(), |measured| table_row(&measured));
            assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), expect);
        };
        let line = r#"{"name":"ingest","value":1234.5,"unit":"events/s","floor":1500,"ratio":0.823}"#;
        check(line, "ingest 1234.50 events/s 1500.00 0.82");
        check(r#"{"name":"p99","value":7,"unit":"ms","floor":null,"ratio":null}"#, "p99 7.00 ms – –");
        check(r#"{"name":"p99","value":7,"unit":"ms"}"#, "p99 7.00 ms – –");
        let shape = r#"is not a line of the form {"name", "value", "unit", "floor", "ratio"}"#;
        check("running 0 tests", &format!("`running 0 tests` {shape}"));
        check(r#"{"name":"x"}"#, &format!("`{{\"name\":\"x\"}}` {shape}"));
    }
}
