"""Unpacks source RPMs, tarballs and Debian source packages. Nothing gets out of the target folder."""

import pathlib
import subprocess
import tarfile
import zipfile

TOOL_TIMEOUT_SECONDS = 600
TARBALLS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# How many bytes all archives together may hold, unpacked.
UNPACKED_BYTES_MAX = 4 * 1024 * 1024 * 1024


class Unreadable(Exception):
    """An archive is broken, missing or too large; its text says which and why."""


def is_source(path):
    return path.name.endswith((".src.rpm", ".rpm", ".dsc", ".zip", ".c", *TARBALLS))


def unpack(path, target, depth=0):
    """Unpacks one file into a folder of its own below `target`, and archives inside of source packages too."""
    folder = target / path.name
    if folder.exists():
        return
    if path.name.endswith(".rpm"):
        folder.mkdir(parents=True)
        unpack_rpm(path, folder)
        # A source RPM holds the tarballs beside its spec file.
        if depth == 0:
            for inner in sorted(folder.iterdir()):
                if inner.name.endswith((".zip", *TARBALLS)):
                    unpack(inner, folder / "unpacked", depth + 1)
    elif path.name.endswith(".dsc"):
        for name in files_of_dsc(path):
            inner = path.parent / name
            if not inner.is_file():
                raise Unreadable(f"{path.name} lists {name}, which is not beside it")
            if name.endswith(TARBALLS):
                unpack(inner, target, depth + 1)
    elif path.name.endswith(TARBALLS):
        folder.mkdir(parents=True)
        unpack_tar(path, folder)
    elif path.name.endswith(".zip"):
        folder.mkdir(parents=True)
        unpack_zip(path, folder)


def inner_name(tree, path):
    """A file's path inside of its archive, without the one folder `name-version` that most archives have."""
    parts = path.relative_to(tree).parts
    archives = [at for at, part in enumerate(parts) if part.endswith((".rpm", ".zip", *TARBALLS))]
    if not archives:
        return "/".join(parts)
    start = archives[-1] + 1
    if len(parts) > start + 1 and len(list(tree.joinpath(*parts[:start]).iterdir())) == 1:
        start += 1
    return "/".join(parts[start:])


def unpack_rpm(path, folder):
    try:
        payload = subprocess.Popen(["rpm2cpio", str(path.resolve())], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        files = subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], cwd=folder, stdin=payload.stdout,
                               stderr=subprocess.PIPE, timeout=TOOL_TIMEOUT_SECONDS, check=False)
        payload.stdout.close()
        errors = payload.stderr.read().decode("utf-8", "replace")
        code = payload.wait(timeout=TOOL_TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreadable(f"{path.name}: {error}") from error
    if code != 0 or files.returncode != 0:
        errors = (errors + files.stderr.decode("utf-8", "replace")).strip()
        raise Unreadable(f"{path.name} is no readable RPM: {errors or 'rpm2cpio or cpio failed'}")


def unpack_tar(path, folder):
    try:
        with tarfile.open(path) as archive:
            members, size = [], 0
            for member in archive:
                size += member.size
                if size > UNPACKED_BYTES_MAX:
                    raise Unreadable(f"{path.name} holds more than {UNPACKED_BYTES_MAX} bytes")
                # Links and devices are of no use to an analyser, and of some to an attacker.
                if member.isfile() or member.isdir():
                    members.append(member)
            extract(archive, folder, members)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise Unreadable(f"{path.name} is no readable tarball: {error}") from error


def extract(archive, folder, members):
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, members=members, filter="data")
        return
    # Python before 3.11.4 has no filter: names that leave the folder are refused by hand.
    root = folder.resolve()
    for member in members:
        if not (root / member.name).resolve().is_relative_to(root):
            raise Unreadable(f"{archive.name} holds {member.name}, which leaves its folder")
    archive.extractall(folder, members=members)


def unpack_zip(path, folder):
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > UNPACKED_BYTES_MAX:
                raise Unreadable(f"{path.name} holds more than {UNPACKED_BYTES_MAX} bytes")
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise Unreadable(f"{path.name} is no readable zip archive: {error}") from error


def files_of_dsc(path):
    """The names in the `Files` field: `checksum size name` each."""
    names, inside = [], False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Files:"):
            inside = True
        elif inside and line.startswith(" "):
            name = line.split()[-1] if line.split() else ""
            if name and pathlib.PurePath(name).name == name:
                names.append(name)
        else:
            inside = False
    if not names:
        raise Unreadable(f"{path.name} lists no files: it is no Debian source package")
    return names
