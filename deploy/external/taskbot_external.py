"""What a program that provides environments for taskbot's workers needs around its own work.

Requests come on standard input and answers go to standard output, one JSON object a line; the protocol is in
docs/external-executors.md. A program is a subclass of Provider, handed to serve(). Only Python's own library is used.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading

PROTOCOL = 1
OUTPUT_BYTES = 64 * 1024


class Refused(Exception):
    """Why a request is not carried out; kind is unavailable, infra or bad_task."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Provider:
    """One environment. Each method returns the fields of its answer, or raises Refused."""

    name = "provider"
    version = "1"
    notes = ()
    can_reboot = False
    can_sweep = False
    can_hold = False

    def __init__(self):
        self._running = None
        self._closing = False
        self._lock = threading.Lock()

    def provision(self, request):
        """Make it; at least {"work_dir": PATH}."""
        raise NotImplementedError

    def copy_in(self, archive):
        """Unpack the tar archive in the work folder."""
        raise NotImplementedError

    def command(self, request):
        """The command on this machine that runs request["argv"] with request["env"], and its variables."""
        raise NotImplementedError

    def copy_out(self, archive, paths):
        """Pack those of the paths below the work folder that are there into a tar archive."""
        raise NotImplementedError

    def reboot(self):
        """Start it anew, with its files."""
        raise Refused("unavailable", "it cannot be rebooted")

    def hold(self):
        """The lines that tell a person on this machine how to get in; nothing of the task runs meanwhile."""
        raise Refused("unavailable", "it cannot be held")

    def destroy(self):
        """Remove it, or what there is of it; may be called twice."""
        raise NotImplementedError

    def sweep(self, worker, alive):
        """Remove the environments of a worker whose labels are not among those alive; how many there were."""
        raise Refused("unavailable", "nothing is kept that could be swept")

    def run(self, argv, check=True, **options):
        """Runs a program of this machine that ends when the request is given up; its output."""
        with self.started(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            output, _ = process.communicate()
        if check and process.returncode != 0:
            said = output.decode(errors="replace").strip()[-500:]
            raise Refused("infra", f"{argv[0]} ended with {process.returncode}: {said}")
        return output

    def started(self, argv, **options):
        """Starts a program that kill_running() ends with all of its process group."""
        with self._lock:
            if self._closing:
                raise Refused("infra", "given up")
            # The group is a new one in the same session: what the worker kills by mark is found in any case.
            options.setdefault("stdin", subprocess.DEVNULL)
            self._running = subprocess.Popen(argv, process_group=0, **options)
            return self._running

    def kill_running(self, closing=False):
        """Ends what runs; for good if the program is closing."""
        with self._lock:
            self._closing |= closing
            if self._running is not None and self._running.poll() is None:
                os.killpg(self._running.pid, signal.SIGKILL)


class _Lines:
    """Standard output, of which each line is written at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._out = sys.stdout.buffer

    def say(self, number, **said):
        line = json.dumps({"id": number, **said}).encode() + b"\n"
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except BrokenPipeError:
            pass  # The worker is gone; the end of the input says so too.


def _execute(provider, request, lines):
    argv, env = provider.command(request)
    with provider.started(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while chunk := os.read(process.stdout.fileno(), OUTPUT_BYTES):
            lines.say(request["id"], output=base64.b64encode(chunk).decode())
        code = process.wait()
    return {"signal": -code} if code < 0 else {"code": code}


def _capabilities(provider):
    return {
        "protocol": PROTOCOL,
        "name": provider.name,
        "version": provider.version,
        "reboot": provider.can_reboot,
        "sweep": provider.can_sweep,
        "hold": provider.can_hold,
        "notes": list(provider.notes),
    }


def _carry_out(provider, request, lines):
    match request.get("request"):
        case "provision":
            return provider.provision(request)
        case "copy_in":
            provider.copy_in(request["archive"])
        case "exec":
            return _execute(provider, request, lines)
        case "copy_out":
            provider.copy_out(request["archive"], request["paths"])
        case "reboot":
            provider.reboot()
        case "hold":
            return {"enter": provider.hold()}
        case "destroy":
            provider.destroy()
        case "sweep":
            return {"removed": provider.sweep(request["worker"], set(request["alive"]))}
        case unknown:
            raise Refused("bad_task", f"{unknown!r} is no request that is known here")
    return {}


def _answer(provider, request, lines):
    try:
        lines.say(request["id"], ok=_carry_out(provider, request, lines) or {})
    except Refused as refused:
        lines.say(request["id"], error={"kind": refused.kind, "message": str(refused)})
    except Exception as error:  # Whatever went wrong is an answer too, else the worker would wait.
        lines.say(request["id"], error={"kind": "infra", "message": f"{type(error).__name__}: {error}"})


def serve(provider):
    """Answers requests until the input ends, and then removes the environment."""
    lines = _Lines()
    at_work = None
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["request"] == "capabilities":
            lines.say(request["id"], ok=_capabilities(provider))
        elif request["request"] == "stop":
            provider.kill_running()
            lines.say(request["id"], ok={})
        else:
            if at_work is not None:
                at_work.join()
            at_work = threading.Thread(target=_answer, args=(provider, request, lines), daemon=True)
            at_work.start()
    provider.kill_running(closing=True)
    if at_work is not None:
        at_work.join()
    provider.destroy()
