#!/usr/bin/env python3
"""Whether a repository still closes with the builds of an update: can everything be installed that could before?

One run is about one repository (release and architecture) and gives a result for each build. A build fails when one
of its packages cannot be installed, or when a package of the repository that could be installed before no longer can
because of it. What was broken before, for the same reason, is told but blamed on nobody.

Reads   ./repodata (fetched by repodata.py), packages/*.rpm.
Writes  $TASKBOT_OUTPUT/results.yaml (Taskotron's ResultYAML, as JSON) and $TASKBOT_OUTPUT/depcheck.log.
Exits   0 nothing failed, 1 something failed, 2 there is no verdict: a repository or package cannot be read.
"""

import json
import os
import pathlib
import sys

import repodata
from repodata import Unreadable, stop

import solv
from closure import World, dependents, newest

BUILDS_MAX = 1000
# How many broken packages a note names; the log names all.
NAMED_MAX = 10
NOTE_CHARACTERS_MAX = 3000
PROGRESS_EVERY_PACKAGES = 5000


class Build:
    """A build of the update, and its packages."""

    def __init__(self, nvr):
        self.nvr, self.packages, self.ids = nvr, [], set()
        # Packages that it breaks, with why; remarks.
        self.breaks, self.remarks = [], []

    def add(self, solvable):
        self.packages.append(solvable)
        self.ids.add(solvable.id)


def nvr_of_source(solvable):
    """name-version-release of the build that a package is from."""
    source = solvable.lookup_sourcepkg() or ""
    return source.removesuffix(".rpm").removesuffix(".src").removesuffix(".nosrc")


def open_pool(arch):
    pool = solv.Pool()
    pool.setdisttype(solv.Pool.DISTTYPE_RPM)
    pool.setarch(arch)
    return pool


def is_binary(pool, solvable):
    return solvable.arch not in ("src", "nosrc") and pool.isknownarch(solvable.archid)


def find_builds(pool, given):
    """The builds with their packages, from the candidates' repositories and from single files."""
    names = given["builds"]
    if not names or len(names) > BUILDS_MAX:
        stop(f"`builds` must name 1 to {BUILDS_MAX} builds, it names {len(names)}")
    builds = {name: Build(name) for name in names}
    repositories = [repodata.load(pool, url) for url in repodata.addresses(given["candidates"], given["arch"])]
    files = sorted(pathlib.Path("packages").glob("*.rpm"))
    if not repositories and not files:
        stop("there is nothing to check: give repositories in `candidates`, or URLs of packages in `packages`")
    if files:
        loose = pool.add_repo("packages")
        for path in files:
            if loose.add_rpm(str(path), solv.Repo.REPO_NO_INTERNALIZE) is None:
                raise Unreadable(f"{path.name} is no readable package: {pool.errstr}")
        loose.internalize()
        repositories.append(loose)
    for repository in repositories:
        for solvable in repository.solvables:
            build = builds.get(nvr_of_source(solvable))
            if not build:
                continue
            # A package may be in several of the repositories.
            known = any(str(other) == str(solvable) for other in build.packages)
            if is_binary(pool, solvable) and not known:
                build.add(solvable)
    return list(builds.values())


def check(pool, stable, builds, log):
    """Fills in what each build breaks."""
    base = newest(stable)
    before = World(pool, base)
    after_of = lambda some: World(pool, newest(stable + [one for build in some for one in build.packages]))
    after = after_of(builds)
    mine = {one.id: build for build in builds for one in build.packages}
    everything = World(pool, base)
    everything.solvables = base + [one for build in builds for one in build.packages]
    everything.enter()
    names = {(one.nameid, one.archid) for build in builds for one in build.packages}
    sources = {nvr_name(build.nvr) for build in builds}
    changed = [one for one in base if (one.nameid, one.archid) in names or nvr_name(nvr_of_source(one)) in sources
               or one.id not in after.ids]
    changed += [one for build in builds for one in build.packages]
    touched = [one for one in dependents(pool, everything.solvables, changed) if one.id in after.ids]
    log(f"{len(base)} packages in the repository, {len(touched)} of them to be checked")
    for build in builds:
        for one in build.packages:
            if one.id not in after.ids:
                build.remarks.append(f"{one} is not what systems would get: there is a newer or an obsoleting package")
    broken = after.enter().broken(touched, progress(len(touched)))
    solvables = [pool.id2solvable(at) for at in sorted(broken)]
    old = before_troubles(before, solvables, mine)
    for one in solvables:
        trouble, was = broken[one.id], old.get(one.id)
        if was and trouble.causes <= was.causes:
            log(f"broken before: {one}: {trouble.text}")
            if one.id in mine:
                mine[one.id].remarks.append(f"{one} was broken before, and is: {trouble.text}")
            continue
        blamed = blame(one, trouble, builds, mine, after_of)
        log(f"broken: {one}: {trouble.text}; by {', '.join(build.nvr for build in blamed)}")
        for build in blamed:
            build.breaks.append((one, trouble.text, mine.get(one.id) is build))
    return len(touched)


def nvr_name(nvr):
    return nvr.rsplit("-", 2)[0]


def progress(total):
    told = [0]

    def tell(done):
        if done - told[0] >= PROGRESS_EVERY_PACKAGES:
            told[0] = done
            print(f"{done} of {total} packages", flush=True)
    return tell


def before_troubles(before, solvables, mine):
    """Why those packages could not be installed before, each by the version that there was then."""
    if not solvables:
        return {}
    versions = {(one.nameid, one.archid): one for one in before.solvables}
    before.enter()
    found = {}
    for one in solvables:
        then = versions.get((one.nameid, one.archid)) if one.id in mine else one
        if then is not None and then.id in before.ids and (trouble := before.trouble_with(then)):
            found[one.id] = trouble
    return found


def blame(solvable, trouble, builds, mine, after_of):
    """The builds that are to blame: that of the package itself, and those without which it could be installed."""
    own = mine.get(solvable.id)
    if len(builds) == 1:
        return builds
    found = []
    for build in builds:
        if build is own:
            found.append(build)
            continue
        without = after_of([other for other in builds if other is not build])
        if solvable.id in without.ids and not without.enter().trouble_with(solvable):
            found.append(build)
    if found:
        return found
    # No single one: those that play a part, else all together.
    return [build for build in builds if build.ids & trouble.solvables] or builds


def result(build, release, arch, touched):
    entry = {"item": build.nvr, "type": "koji_build", "release": release, "arch": arch}
    if not build.packages:
        note = f"no package of it for {arch} is in `candidates` or `packages`: no verdict"
        return {**entry, "outcome": "ERROR", "note": note}
    remarks = "".join(f"; {remark}" for remark in build.remarks[:NAMED_MAX])
    if not build.breaks:
        note = f"{len(build.packages)} packages of it, {touched} packages checked with it: all can be installed"
        return {**entry, "outcome": "PASSED", "note": shorten(note + remarks)}
    told = []
    for one, why, own in build.breaks[:NAMED_MAX]:
        told.append(f"{'cannot be installed' if own else 'breaks'} {one}: {why}" if not own
                    else f"{one} cannot be installed: {why}")
    more = len(build.breaks) - NAMED_MAX
    note = "; ".join(told) + (f"; and {more} more, see depcheck.log" if more > 0 else "") + remarks
    names = [str(one) for one, _, _ in build.breaks]
    return {**entry, "outcome": "FAILED", "note": shorten(note), "broken": shorten(" ".join(names))}


def shorten(text):
    return text if len(text) <= NOTE_CHARACTERS_MAX else text[:NOTE_CHARACTERS_MAX] + "…"


def main():
    output = pathlib.Path(os.environ.get("TASKBOT_OUTPUT") or stop("TASKBOT_OUTPUT is not set: expected a folder"))
    given = repodata.inputs()
    release, arch = given["release"], given["arch"]
    with open(output / "depcheck.log", "w", encoding="utf-8") as file:
        def log(text):
            print(text, file=file)
        try:
            pool = open_pool(arch)
            stable = [one for url in repodata.addresses(given["repositories"], arch)
                      for one in repodata.load(pool, url).solvables if is_binary(pool, one)]
            if not stable:
                raise Unreadable(f"the repositories of {release} hold no package for {arch}")
            builds = find_builds(pool, given)
            pool.addfileprovides()
            present = [build for build in builds if build.packages]
            touched = check(pool, stable, present, log) if present else 0
        except Unreadable as error:
            stop(str(error))
        results = [result(build, release, arch, touched) for build in builds]
        for one in results:
            log(f"{one['outcome']} {one['item']}: {one['note']}")
            print(f"{one['outcome']:>7}  {one['item']}: {one['note']}")
    with open(output / "results.yaml", "w", encoding="utf-8") as file:
        json.dump({"results": results}, file, ensure_ascii=False, indent=1)
    outcomes = {one["outcome"] for one in results}
    sys.exit(1 if outcomes & {"FAILED", "ERROR"} else 0)


if __name__ == "__main__":
    main()
