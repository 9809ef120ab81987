"""What the analyses of a package's C sources share: unpacking them, running an analyser, adding up what it found."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from unpack import Unreadable, inner_name, is_source, unpack

__all__ = ["FILES_MAX", "c_files", "fail", "inner_name", "main", "of_file", "run", "summary", "worst"]

FILES_MAX = 3000
FINDINGS_MAX = 3000
OUTPUT_BYTES_MAX = 4 * 1024 * 1024
ORDER = ["not_applicable", "skipped", "passed", "info", "failed", "error"]


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def inputs():
    path = os.environ.get("TASKBOT_INPUTS")
    if not path:
        fail("TASKBOT_INPUTS is not set: expected the path of the JSON file with the inputs")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def collect(given, tree):
    """Unpacks everything that was given below `tree`; loose C files are copied."""
    folders = [pathlib.Path("sources")]
    if given.get("folder"):
        folders.append(pathlib.Path(given["folder"]))
        if not folders[-1].is_dir():
            fail(f"the input `folder` names {folders[-1]}, which is no folder")
    found = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir() if is_source(path))
    if not found:
        fail("no sources: give URLs in `sources`, or a folder with source RPMs, tarballs or C files in `folder`")
    for path in found:
        try:
            if path.suffix == ".c":
                shutil.copy(path, tree)
            else:
                unpack(path, tree)
        except Unreadable as error:
            fail(str(error))


def c_files(tree):
    return sorted(path for path in tree.rglob("*.c") if path.is_file() and not path.is_symlink())


def run(command, timeout, cwd):
    """Exit code and output of a command; the code is None when it took too long."""
    # Some do not start without a home.
    environment = {"HOME": str(cwd), **os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None, f"did not end within {timeout} s"
    return done.returncode, done.stdout[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")


def of_file(name, findings):
    """The result of a file, with findings that are called alike told apart by a number."""
    times = {}
    for finding in findings:
        rule = finding["name"]
        times[rule] = times.get(rule, 0) + 1
        if times[rule] > 1:
            finding["name"] = f"{rule}.{times[rule]}"
    outcome = worst(findings) if findings else "passed"
    return {"name": name, "outcome": outcome, "children": findings}


def summary(name, results, note):
    """An analyser's result. Files that passed are counted, not listed, and findings over the limit are cut."""
    telling = [result for result in results if result["outcome"] != "passed"]
    findings = sum(len(result.get("children", [])) for result in telling)
    left, cut = FINDINGS_MAX, False
    telling.sort(key=lambda result: -ORDER.index(result["outcome"]))
    for result in telling:
        children = result.get("children", [])
        cut = cut or len(children) > left
        result["children"] = children[:left]
        left -= len(result["children"])
    note += f", {findings} findings" + (f", of which {FINDINGS_MAX} are listed" if cut else "")
    return {"name": name, "outcome": worst(results), "note": note, "children": telling[:FILES_MAX]}


def worst(results):
    return max((result["outcome"] for result in results), key=ORDER.index)


def main(analyse):
    """Runs `analyse(tree, log) -> results` on the sources, and reports; exits 0 or 1."""
    output = pathlib.Path(os.environ.get("TASKBOT_OUTPUT") or fail("TASKBOT_OUTPUT is not set: expected a folder"))
    # The work folder has room; /tmp may be a small file system in memory.
    place = "." if os.access(".", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder, open(output / "analysis.log", "w", encoding="utf-8") as log:
        tree = pathlib.Path(folder).resolve()
        collect(inputs(), tree)
        results = analyse(tree, log)
    with open(output / "results.json", "w", encoding="utf-8") as file:
        json.dump({"results": results}, file, ensure_ascii=False, indent=1)
    for result in results:
        print(f"{result['outcome']:>7}  {result['name']}: {result['note']}")
        for inner in result.get("children", []):
            for finding in inner.get("children", []):
                data = finding["data"]
                print(f"         {data['file']}:{data['line']}: {finding['note']}")
    sys.exit(1 if worst(results) in ("failed", "error") else 0)
