#!/usr/bin/env python3
"""Runs rpmlint on every package and writes its findings as results.

A package is one result, and every finding a sub-result of it: errors of rpmlint are failed, warnings are info.
A package that rpmlint could not read, or an output that does not add up, is an error and never passed.

Reads   packages/*.rpm in the work folder, and *.rpm in the folder that the input `folder` names.
Writes  $TASKBOT_OUTPUT/results.json and $TASKBOT_OUTPUT/rpmlint.log.
Exits   0 nothing failed, 1 something failed, 2 there is nothing to check or no rpmlint.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE_TIMEOUT_SECONDS = 300
# All results together must stay below what one attempt can report.
FINDINGS_MAX = 5000
OUTPUT_BYTES_MAX = 16 * 1024 * 1024

FINDING = re.compile(r"^(?P<where>.+?): (?P<level>[EW]): (?P<rule>\S+)(?: (?P<details>.*))?$")
SUMMARY = re.compile(r"(\d+) packages and (\d+) specfiles checked; (\d+) errors, (\d+) warnings")
# 0 clean, 64 errors, 65 only promoted errors, 66 badness over its threshold.
EXIT_CODES = {0, 64, 65, 66}


def fail(message):
    print(f"rpmlint task: {message}", file=sys.stderr)
    sys.exit(2)


def inputs():
    path = os.environ.get("TASKBOT_INPUTS")
    if not path:
        fail("TASKBOT_INPUTS is not set: expected the path of the JSON file with the inputs")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def packages(given):
    folders = [pathlib.Path("packages")]
    if given.get("folder"):
        folders.append(pathlib.Path(given["folder"]))
        if not folders[-1].is_dir():
            fail(f"the input `folder` names {folders[-1]}, which is no folder")
    found = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.rpm"))
    if not found:
        fail("no package to check: give URLs in `packages`, or a folder with *.rpm in `folder`")
    return found


def lint(package, log):
    """The result of one package."""
    command = ["rpmlint", "--config", str(HERE / "rpmlint.toml"), str(package.resolve())]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=PACKAGE_TIMEOUT_SECONDS, check=False)
    except FileNotFoundError:
        fail("rpmlint is not installed")
    except subprocess.TimeoutExpired:
        return error(package, f"rpmlint did not end within {PACKAGE_TIMEOUT_SECONDS} s")
    output = done.stdout[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")
    errors = done.stderr[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")
    log.write(f"== {package.name}: exit code {done.returncode}\n{output}{errors}\n")
    if done.returncode not in EXIT_CODES:
        return error(package, f"rpmlint ended with {done.returncode}: {last_line(errors or output)}")
    findings = [match for match in map(FINDING.match, output.splitlines()) if match]
    summary = SUMMARY.search(output)
    if not summary:
        return error(package, "rpmlint printed no summary: it did not get to its end")
    checked, _, bad, warned = map(int, summary.groups())
    counted = [sum(1 for finding in findings if finding["level"] == level) for level in "EW"]
    if checked != 1 or counted != [bad, warned]:
        return error(package, f"rpmlint's summary does not agree with its findings: {summary[0]}; read {counted}")
    return result(package, findings)


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


def error(package, note):
    return {"name": package.name, "outcome": "error", "note": note}


def result(package, findings):
    # Failures first, so that what is cut off at the limit is the least of it.
    findings.sort(key=lambda finding: finding["level"])
    failed = any(finding["level"] == "E" for finding in findings)
    names = {}
    children = []
    for finding in findings[:FINDINGS_MAX]:
        times = names[finding["rule"]] = names.get(finding["rule"], 0) + 1
        name = finding["rule"] if times == 1 else f"{finding['rule']}.{times}"
        data = {"rule": finding["rule"], "package": package.name}
        where, _, line = finding["where"].rpartition(":")
        if where and line.isdigit():
            data.update(file=where, line=int(line))
        else:
            # Findings about a file in the package start their details with its path.
            first = (finding["details"] or "").split(" ", 1)[0]
            data["file"] = first if first.startswith("/") else finding["where"]
        outcome = "failed" if finding["level"] == "E" else "info"
        children.append({"name": name, "outcome": outcome, "note": finding[0], "data": data})
    count = len(findings)
    note = "nothing found" if not count else f"{count} findings"
    if count > FINDINGS_MAX:
        note += f", of which the first {FINDINGS_MAX} are listed"
    outcome = "failed" if failed else "info" if count else "passed"
    return {"name": package.name, "outcome": outcome, "note": note, "children": children}


def main():
    output = pathlib.Path(os.environ.get("TASKBOT_OUTPUT") or fail("TASKBOT_OUTPUT is not set: expected a folder"))
    found = packages(inputs())
    left = FINDINGS_MAX
    results = []
    with open(output / "rpmlint.log", "w", encoding="utf-8") as log:
        for package in found:
            one = lint(package, log)
            children = one.get("children", [])
            if len(children) > left:
                one["children"] = children[:left]
                one["note"] += f"; cut to {left}, since all packages together have more than {FINDINGS_MAX}"
            left -= min(left, len(children))
            results.append(one)
            print(f"{one['outcome']:>7}  {one['name']}: {one['note']}")
    with open(output / "results.json", "w", encoding="utf-8") as file:
        json.dump({"results": results}, file, ensure_ascii=False, indent=1)
    sys.exit(1 if any(one["outcome"] in ("failed", "error") for one in results) else 0)


if __name__ == "__main__":
    main()
