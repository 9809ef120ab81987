#!/usr/bin/env python3
"""Analyses the C sources of a package with `gcc -fanalyzer` and, where it is installed, cppcheck.

Each analyser is one result, each file with findings below it, each finding below that with file and line.
Findings of gcc's analyser and errors of cppcheck are failed, cppcheck's warnings are info. A file that gcc cannot
compile on its own (headers that only a configured build has) is skipped and said so. An analyser that crashes, or
sources of which nothing could be analysed, are an error and never passed. No C sources: not applicable.

Reads   sources/* in the work folder, and the folder that the input `folder` names.
Writes  $TASKBOT_OUTPUT/results.json and $TASKBOT_OUTPUT/analysis.log.
Exits   0 nothing failed, 1 something failed, 2 there is nothing to read or no compiler.
"""

import os
import pathlib
import re
import shutil
import tempfile
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor

from analysis import FILES_MAX, c_files, fail, inner_name, main, of_file, run, summary, worst

FILE_TIMEOUT_SECONDS = 300
CPPCHECK_TIMEOUT_SECONDS = 1800
PROGRESS_EVERY_FILES = 50
HEADER_FOLDERS_MAX = 200

DIAGNOSTIC = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:(?P<column>\d+):)? "
                        r"(?P<kind>warning|error|fatal error): (?P<text>.*)$", re.MULTILINE)
ANALYZER = re.compile(r"\[-W(?P<rule>analyzer-[a-z0-9-]+)\]")
CWE = re.compile(r"\[(CWE-\d+)\]")
CRASHED = re.compile(r"internal compiler error|terminated program|Please submit a full bug report")


def gcc_one(tree, path, includes):
    """One file through gcc's analyser: its result, with a result for every finding."""
    name = inner_name(tree, path)
    # The analyser runs only in a real compilation; -std keeps older code compiling with newer compilers.
    command = ["gcc", "-std=gnu11", "-fanalyzer", "-fdiagnostics-plain-output", "-fdiagnostics-path-format=none",
               "-O1", "-c", "-o", "/dev/null", *includes, f"./{path.relative_to(tree)}"]
    code, output = run(command, FILE_TIMEOUT_SECONDS, tree)
    found = [match for match in DIAGNOSTIC.finditer(output)]
    if code is None or code < 0 or CRASHED.search(output):
        return {"name": name, "outcome": "error", "note": f"gcc: {shorten(output) or f'killed by signal {-code}'}"}, output
    if code != 0:
        broken = next((match["text"] for match in found if match["kind"] != "warning"), None)
        if broken is None:
            return {"name": name, "outcome": "error", "note": f"gcc ended with {code}: {shorten(output)}"}, output
        return {"name": name, "outcome": "skipped", "note": f"does not compile on its own: {broken}"}, output
    findings = []
    for match in found:
        rule = ANALYZER.search(match["text"])
        if not rule or match["kind"] != "warning":
            continue
        data = {"rule": rule["rule"], "file": inner_name(tree, tree / match["file"]), "line": int(match["line"])}
        if match["column"]:
            data["column"] = int(match["column"])
        if cwe := CWE.search(match["text"]):
            data["cwe"] = cwe[1]
        findings.append({"name": rule["rule"], "outcome": "failed", "note": match["text"], "data": data})
    return of_file(name, findings), output


def gcc_analyzer(tree, files, log):
    # `<lib/x.h>` is found from the folder above `lib`.
    headers = {header.relative_to(tree) for header in tree.rglob("*.h")}
    folders = sorted({str(folder) for header in headers for folder in header.parents})[:HEADER_FOLDERS_MAX]
    # Behind the system's own, so that a package's string.h for other systems does not replace it.
    includes = [option for folder in folders for option in ("-iquote", f"./{folder}", "-idirafter", f"./{folder}")]
    results = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for result, output in pool.map(lambda path: gcc_one(tree, path, includes), files):
            log.write(f"== gcc {result['name']}: {result['outcome']}\n{output}\n")
            results.append(result)
            if len(results) % PROGRESS_EVERY_FILES == 0:
                print(f"{len(results)} of {len(files)} files", flush=True)
    analysed = sum(1 for result in results if result["outcome"] in ("passed", "failed"))
    return summary("gcc-analyzer", results, f"{analysed} of {len(files)} files analysed"), analysed


def cppcheck(tree, files, log):
    """All files through cppcheck; nothing if it is not installed."""
    if not shutil.which("cppcheck"):
        return None, 0
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("".join(f"{path.relative_to(tree)}\n" for path in files))
        listed.flush()
        report = pathlib.Path(listed.name + ".xml")
        command = ["cppcheck", "--xml", f"--output-file={report}", "--enable=warning", "--language=c", "--quiet",
                   "-j", str(os.cpu_count() or 1), f"--file-list={listed.name}"]
        code, output = run(command, CPPCHECK_TIMEOUT_SECONDS, tree)
        text = report.read_text(encoding="utf-8", errors="replace") if report.exists() else ""
        report.unlink(missing_ok=True)
    log.write(f"== cppcheck: exit code {code}\n{output}{text}\n")
    if code != 0:
        return {"name": "cppcheck", "outcome": "error", "note": f"cppcheck ended with {code}: {shorten(output)}"}, 0
    try:
        errors = list(xml.fromstring(text).iter("error"))
    except xml.ParseError as error:
        return {"name": "cppcheck", "outcome": "error", "note": f"cppcheck's report is broken: {error}"}, 0
    by_file, unread = {}, set()
    for error in errors:
        place = error.find("location")
        file = None if place is None else inner_name(tree, tree / place.get("file", ""))
        if error.get("id") in ("internalError", "cppcheckError"):
            note = f"cppcheck broke: {error.get('msg')}"
            return {"name": "cppcheck", "outcome": "error", "note": note}, 0
        if place is None:
            continue
        if error.get("id") in ("syntaxError", "preprocessorErrorDirective", "unknownMacro"):
            unread.add(file)
            continue
        outcome = {"error": "failed", "warning": "info"}.get(error.get("severity"))
        if outcome:
            data = {"rule": error.get("id"), "file": file, "line": int(place.get("line", 0))}
            if error.get("cwe"):
                data["cwe"] = f"CWE-{error.get('cwe')}"
            finding = {"name": error.get("id"), "outcome": outcome, "note": error.get("msg"), "data": data}
            by_file.setdefault(file, []).append(finding)
    names = [inner_name(tree, path) for path in files]
    results = [of_file(name, by_file.get(name, [])) for name in names if name not in unread or name in by_file]
    results += [{"name": name, "outcome": "skipped", "note": "cppcheck cannot read it as it stands"}
                for name in names if name in unread and name not in by_file]
    # Findings in headers belong to no listed file.
    results += [of_file(name, found) for name, found in sorted(by_file.items()) if name not in names]
    analysed = sum(1 for name in names if name not in unread)
    return summary("cppcheck", results, f"{analysed} of {len(files)} files analysed"), analysed


def shorten(text):
    lines = text.strip().splitlines()
    telling = [line for line in lines if CRASHED.search(line)] or lines[-1:]
    return telling[0][:500] if telling else ""


def analyse(tree, log):
    files = c_files(tree)
    if not files:
        return [{"name": "sources", "outcome": "not_applicable", "note": "there is no C source"}]
    if len(files) > FILES_MAX:
        fail(f"{len(files)} C files, the limit is {FILES_MAX}")
    if not shutil.which("gcc"):
        fail("gcc is not installed")
    results = []
    analysed = 0
    for analyser in (gcc_analyzer, cppcheck):
        result, count = analyser(tree, files, log)
        analysed += count
        if result:
            results.append(result)
    if not analysed and not any(result["outcome"] == "error" for result in results):
        note = f"none of {len(files)} C files could be analysed: no verdict on the package"
        results.append({"name": "sources", "outcome": "error", "note": note})
    return results


if __name__ == "__main__":
    main(analyse)
