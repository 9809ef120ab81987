#!/usr/bin/env python3
"""Whether versions never go down towards newer releases when the builds are in their release.

For each build: no older release, and the release itself, may have a newer version of the package than the build, and
no newer release an older one; by RPM's comparison of epoch, version and release. A release that does not have the
package says nothing.

Reads   ./repodata (fetched by repodata.py).
Writes  $TASKBOT_OUTPUT/results.yaml (Taskotron's ResultYAML, as JSON) and $TASKBOT_OUTPUT/upgradepath.log.
Exits   0 nothing failed, 1 something failed, 2 there is no verdict: a repository cannot be read, a release is unknown.
"""

import json
import os
import pathlib
import sys

import repodata
from repodata import Unreadable, stop

import rpm
import solv

BUILDS_MAX = 1000
RELEASES_MAX = 50


class Version:
    """A version of a package: epoch, version, release; and the build's name for people."""

    def __init__(self, epoch, nvr):
        parts = nvr.rsplit("-", 2)
        if len(parts) != 3 or not all(parts):
            stop(f"{nvr!r} is no build: expected name-version-release")
        self.name, self.label, self.nvr = parts[0], (str(epoch or 0), parts[1], parts[2]), nvr

    def __str__(self):
        return self.nvr if self.label[0] == "0" else f"{self.nvr} (epoch {self.label[0]})"

    def compare(self, other):
        return rpm.labelCompare(self.label, other.label)


def version(given):
    """A version from an input: a text, or {nvr, epoch} as updates hold it."""
    if isinstance(given, dict):
        return Version(given.get("epoch"), str(given.get("nvr") or ""))
    return Version(0, str(given))


def newest(versions):
    best = None
    for one in versions:
        if best is None or one.compare(best) > 0:
            best = one
    return best


def versions_in(repository, names):
    """Every version of those source packages that a repository has, from sources or from what was built of them."""
    found = {}
    for solvable in repository.solvables:
        epoch, _, _ = solvable.evr.rpartition(":")
        if solvable.arch in ("src", "nosrc"):
            build = f"{solvable.name}-{solvable.evr.rpartition(':')[2]}"
        else:
            source = solvable.lookup_sourcepkg() or ""
            build = source.removesuffix(".rpm").removesuffix(".src").removesuffix(".nosrc")
        name = build.rsplit("-", 2)[0]
        if name in names:
            # The epoch is that of the source package; a package of the same name has it for certain.
            certain = solvable.name == name
            if certain or build not in found:
                found[build] = Version(epoch, build)
    return found.values()


def collect(given, names):
    """What each release has of those packages: [(release, {name: newest version})], the oldest release first."""
    releases, have = given["releases"], []
    if not releases or len(releases) > RELEASES_MAX:
        stop(f"`releases` must hold 1 to {RELEASES_MAX} releases, it holds {len(releases)}")
    for release in releases:
        if not isinstance(release, dict) or not release.get("name"):
            stop(f"{release!r} is no release: expected {{name: F42, repositories: [URL]}}")
        pool, versions = solv.Pool(), []
        for url in repodata.addresses(release.get("repositories") or [], given["arch"]):
            versions += versions_in(repodata.load(pool, url), names)
        versions += [version(one) for one in given["known"].get(release["name"]) or []]
        by_name = {}
        for one in versions:
            by_name.setdefault(one.name, []).append(one)
        have.append((release["name"], {name: newest(some) for name, some in by_name.items()}))
    unknown = set(given["known"]) - {name for name, _ in have}
    if unknown:
        stop(f"`known` speaks of {', '.join(sorted(unknown))}, which `releases` does not hold")
    return have


def check(build, release, have):
    """What is wrong with a build, and what it was compared with."""
    order = [name for name, _ in have]
    own, wrong, seen = order.index(release), [], []
    for at, (name, packages) in enumerate(have):
        other = packages.get(build.name)
        if other is None:
            seen.append(f"{name} has none")
            continue
        seen.append(f"{name} has {other}")
        compared = build.compare(other)
        if at < own and compared < 0:
            wrong.append(f"{name} has the newer {other}: from {name} to {release} the version would go down")
        elif at == own and compared < 0:
            wrong.append(f"{name} itself has the newer {other}: installed systems would not get the build")
        elif at > own and compared > 0:
            wrong.append(f"{name} has the older {other}: from {release} to {name} the version would go down")
    return wrong, seen


def main():
    output = pathlib.Path(os.environ.get("TASKBOT_OUTPUT") or stop("TASKBOT_OUTPUT is not set: expected a folder"))
    given = repodata.inputs()
    builds = [version(one) for one in given["builds"]]
    if not builds or len(builds) > BUILDS_MAX:
        stop(f"`builds` must name 1 to {BUILDS_MAX} builds, it names {len(builds)}")
    try:
        have = collect(given, {build.name for build in builds})
    except Unreadable as error:
        stop(str(error))
    release = given["release"]
    if release not in [name for name, _ in have]:
        stop(f"the release {release} is not in `releases`: {', '.join(name for name, _ in have)}")
    results = []
    with open(output / "upgradepath.log", "w", encoding="utf-8") as log:
        for build in builds:
            wrong, seen = check(build, release, have)
            note = "; ".join(wrong or seen)
            outcome = "FAILED" if wrong else "PASSED"
            results.append({"item": build.nvr, "type": "koji_build", "release": release, "outcome": outcome, "note": note})
            print(f"{outcome} {build} for {release}: {note} (seen: {'; '.join(seen)})", file=log)
            print(f"{outcome:>7}  {build}: {note}")
    with open(output / "results.yaml", "w", encoding="utf-8") as file:
        json.dump({"results": results}, file, ensure_ascii=False, indent=1)
    sys.exit(1 if any(one["outcome"] == "FAILED" for one in results) else 0)


if __name__ == "__main__":
    main()
