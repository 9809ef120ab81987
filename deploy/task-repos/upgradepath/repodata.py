#!/usr/bin/env python3
"""Fetches the metadata of RPM repositories, and reads them with libsolv.

    python3 repodata.py INPUTS    fetches what the inputs `repositories`, `candidates` and `releases` in that JSON file
                                  name into ./repodata; for `prepare`, which has a network

A repository is named by its URL or by a folder of this machine; `$arch` in it becomes the input `arch`. Every file
must have the size and the checksum that repomd.xml states.
"""

import gzip
import hashlib
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as xml

FETCHED = pathlib.Path("repodata")
REPOSITORIES_MAX = 50
REPOMD_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 2 * 1024 * 1024 * 1024
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 3
RETRY_PAUSE_SECONDS = 2
CHUNK_BYTES = 1024 * 1024
# `filelists` because packages also require files.
KINDS = ("primary", "filelists")
REPO = "{http://linux.duke.edu/metadata/repo}"


class Unreadable(Exception):
    """A repository cannot be had or is broken; its text says which and why."""


def stop(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def inputs(path=os.environ.get("TASKBOT_INPUTS")):
    if not path:
        stop("TASKBOT_INPUTS is not set: expected the path of the JSON file with the inputs")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def address(name, arch):
    """A repository's URL: without variables and with the scheme that says where it is."""
    if not isinstance(name, str) or not name:
        raise Unreadable(f"{name!r} is no address of a repository: expected a URL or a folder")
    name = name.replace("$basearch", arch).replace("$arch", arch).rstrip("/")
    if name.startswith("/"):
        return pathlib.Path(name).as_uri()
    if not name.startswith(("http://", "https://", "file:///")):
        raise Unreadable(f"{name} is no address of a repository: expected http(s)://, file:/// or a folder")
    return name


def place(url):
    """Where the metadata of a repository are kept."""
    return FETCHED / hashlib.sha256(url.encode()).hexdigest()[:16]


def download(url, target, limit):
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=READ_TIMEOUT_SECONDS) as response, open(target, "wb") as file:
                size = 0
                while chunk := response.read(CHUNK_BYTES):
                    size += len(chunk)
                    if size > limit:
                        raise Unreadable(f"{url} is longer than {limit} bytes")
                    file.write(chunk)
                return
        except (OSError, ValueError, EOFError) as error:
            # What is not there will not be there in a moment.
            gone = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 or url.startswith("file:")
            if gone or attempt == ATTEMPTS:
                raise Unreadable(f"cannot fetch {url}: {error}") from error
            time.sleep(RETRY_PAUSE_SECONDS * attempt)


def parse_repomd(path):
    """The metadata files that repomd.xml lists, by kind: location, checksum, size."""
    try:
        root = xml.parse(path).getroot()
    except xml.ParseError as error:
        raise Unreadable(f"repomd.xml is broken: {error}") from error
    found = {}
    for data in root.iter(f"{REPO}data"):
        location, checksum, size = (data.find(REPO + name) for name in ("location", "checksum", "size"))
        if location is None or checksum is None:
            continue
        href = location.get("href", "")
        if href.startswith("/") or ".." in href.split("/") or "://" in href:
            raise Unreadable(f"repomd.xml names {href}, which is not inside of the repository")
        length = int(size.text) if size is not None and (size.text or "").isdigit() else METADATA_BYTES_MAX
        found[data.get("type")] = (href, checksum.get("type"), (checksum.text or "").strip(), length)
    if "primary" not in found:
        raise Unreadable("repomd.xml lists no primary metadata")
    return found


def digest(path, kind):
    try:
        digest = hashlib.new({"sha": "sha1"}.get(kind, kind or ""))
    except ValueError as error:
        raise Unreadable(f"{path.name} has a checksum of an unknown kind, {kind}") from error
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url):
    folder = place(url)
    if folder.exists():
        return
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        download(f"{url}/repodata/repomd.xml", half / "repomd.xml", REPOMD_BYTES_MAX)
        listed = parse_repomd(half / "repomd.xml")
        for kind in KINDS:
            if kind not in listed:
                continue
            href, checksum_kind, checksum, size = listed[kind]
            target = half / (kind + "".join(pathlib.PurePosixPath(href).suffixes[-2:]))
            download(f"{url}/{href}", target, min(size, METADATA_BYTES_MAX))
            if digest(target, checksum_kind) != checksum:
                raise Unreadable(f"{href} has not the checksum that repomd.xml states")
    except Unreadable as error:
        raise Unreadable(f"repository {url}: {error}") from error
    half.rename(folder)
    print(f"fetched {url}", flush=True)


def addresses(names, arch):
    if len(names) > REPOSITORIES_MAX:
        raise Unreadable(f"{len(names)} repositories are named, the limit is {REPOSITORIES_MAX}")
    return [address(name, arch) for name in names]


def all_addresses(given):
    """All that the inputs name, in their order, each once."""
    names = [given.get("repositories") or [], given.get("candidates") or []]
    names += [release.get("repositories") or [] for release in given.get("releases") or []]
    return dict.fromkeys(url for some in names for url in addresses(some, given["arch"]))


def load(pool, url):
    """A repository of libsolv with the metadata that were fetched from a URL."""
    import solv
    folder, repository = place(url), pool.add_repo(url)
    if not folder.is_dir():
        raise Unreadable(f"repository {url} was not fetched: `prepare` did not run")
    for kind in KINDS:
        for path in folder.glob(f"{kind}.*"):
            file = solv.xfopen(str(path))
            language = None if kind == "primary" else "FL"
            flags = 0 if kind == "primary" else solv.Repo.REPO_EXTEND_SOLVABLES | solv.Repo.REPO_LOCALPOOL
            if file is None or not repository.add_rpmmd(file, language, flags):
                raise Unreadable(f"repository {url}: libsolv cannot read its {kind} metadata: {pool.errstr}")
            file.close()
    # A damaged archive reads as if it just ended; what it claims to hold says otherwise.
    stated = packages_stated(next(folder.glob("primary.*")))
    if stated is not None and stated != repository.nsolvables:
        message = f"its metadata hold {repository.nsolvables} packages, but claim to hold {stated}"
        raise Unreadable(f"repository {url}: {message}")
    return repository


def packages_stated(path):
    """The number of packages that primary.xml states at its beginning, where we can unpack it."""
    if path.suffix not in (".gz", ".xml"):
        return None
    opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    with opened as file:
        head = file.read(4096).decode("utf-8", "replace")
    _, found, rest = head.partition('packages="')
    number = rest.partition('"')[0]
    return int(number) if found and number.isdigit() else None


def main():
    if len(sys.argv) != 2:
        stop("usage: repodata.py INPUTS")
    try:
        for url in all_addresses(inputs(sys.argv[1])):
            fetch(url)
        # `run` may be another user.
        for folder, _, files in os.walk(FETCHED):
            os.chmod(folder, 0o755)
            for name in files:
                os.chmod(pathlib.Path(folder, name), 0o644)
    except Unreadable as error:
        stop(str(error))


if __name__ == "__main__":
    main()
