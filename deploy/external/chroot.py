#!/usr/bin/env python3
"""Environments that are copies of a root folder, entered by chroot in namespaces of their own.

For trusted tasks only: commands are root, and a chroot holds nobody who wants out. It needs root, cp, chroot and
util-linux's unshare, and in each root folder sh and tar.

    worker:
      external:
        chroot:
          command: [/usr/local/lib/taskbot/chroot.py, --root, debian=/srv/roots/debian]

    environment: {external: {provider: chroot, with: {root: debian}}}
"""

import argparse
import os
import shlex
import shutil
import stat
import subprocess

from taskbot_external import Provider, Refused, serve

WORK_DIR = "/task"
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
UNPACK = 'cd "$0" && exec tar -xf -'
# Those of the paths that are there; of none, an empty file.
PACK = """cd "$0" || exit
for path; do shift; [ ! -e "$path" ] || set -- "$@" "$path"; done
[ $# = 0 ] || exec tar -cf - "$@\""""
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}


class Chroot(Provider):
    name = "chroot"
    can_hold = True
    notes = ("no isolation to speak of: commands are root in a chroot",)

    def __init__(self, roots, state):
        super().__init__()
        self.roots = roots
        self.state = state
        self.can_sweep = state is not None
        self.place = None

    def provision(self, request):
        wish = request["with"]
        if unknown := sorted(set(wish) - {"root"}):
            raise Refused("bad_task", f"`with` takes `root` alone, not {', '.join(unknown)}")
        name = wish.get("root", next(iter(self.roots)))
        if name not in self.roots:
            raise Refused("unavailable", f"there is no root `{name}`; there are {', '.join(self.roots)}")
        folder = self.state or "."
        os.makedirs(folder, exist_ok=True)
        self.place = os.path.join(os.path.abspath(folder), f"{request['worker']}@{request['label']}")
        os.mkdir(self.place, 0o700)
        self.run(["cp", "-a", "--reflink=auto", "--", self.roots[name] + "/.", self.inner("/")])
        for path in ("/dev", "/proc", "/tmp", WORK_DIR):
            os.makedirs(self.inner(path), exist_ok=True)
        os.chmod(self.inner("/tmp"), 0o1777)
        for device, number in DEVICES.items():
            path = self.inner(f"/dev/{device}")
            if not os.path.lexists(path):
                os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(*number))
                os.chmod(path, 0o666)
        return {"work_dir": WORK_DIR, "home": "/tmp", "image": name}

    def inner(self, path):
        return self.place + "/root" + path

    def enter(self, argv, network=False):
        # The first process of a namespace takes all others with it.
        spaces = ["--pid", "--fork", "--kill-child", "--ipc", f"--mount-proc={self.inner('/proc')}"]
        if not network:
            spaces.append("--net")
        return [shutil.which("unshare"), *spaces, shutil.which("chroot"), self.inner("/"), *argv]

    def command(self, request):
        # Only `prepare` has network.
        return self.enter(request["argv"], network=request["profile"] == "install"), request["env"]

    # Files are moved by the root's own tar: whatever links the task made cannot lead it out of the chroot.

    def copy_in(self, archive):
        with open(archive, "rb") as packed:
            self.run(self.enter(["/bin/sh", "-c", UNPACK, WORK_DIR]), stdin=packed, env=ENV)

    def copy_out(self, archive, paths):
        with open(archive, "wb") as packed:
            argv = self.enter(["/bin/sh", "-c", PACK, WORK_DIR, *paths])
            with self.started(argv, stdout=packed, stderr=subprocess.PIPE, env=ENV) as process:
                _, said = process.communicate()
        if process.returncode != 0:
            raise Refused("infra", f"tar: {said.decode(errors='replace').strip()[-500:]}")

    def hold(self):
        return [shlex.join(self.enter(["/bin/sh", "-c", 'cd "$0" && exec sh', WORK_DIR]))]

    def destroy(self):
        if self.place is not None:
            shutil.rmtree(self.place)
            self.place = None

    def sweep(self, worker, alive):
        if self.state is None or not os.path.isdir(self.state):
            return 0
        prefix = worker + "@"
        left = [name for name in os.listdir(self.state) if name.startswith(prefix)]
        dead = [name for name in left if name.removeprefix(prefix) not in alive]
        for name in dead:
            shutil.rmtree(os.path.join(self.state, name))
        return len(dead)


def main():
    parser = argparse.ArgumentParser(description="Environments in copies of a root folder, for taskbot's workers")
    parser.add_argument("--root", action="append", required=True, metavar="NAME=FOLDER", help="a root that tasks can name")
    parser.add_argument("--state", metavar="FOLDER", help="where copies are made; without it in the attempt's own folder")
    given = parser.parse_args()
    roots = dict(root.split("=", 1) for root in given.root)
    serve(Chroot(roots, given.state))


if __name__ == "__main__":
    main()
