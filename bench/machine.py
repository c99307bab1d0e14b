"""What the scenarios measure with: processes pinned to cores, their CPU time and memory, and the programs in C beside this
file."""

import contextlib
import glob
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TOOLS = ROOT / "build" / "bench"

_allowed = sorted(os.sched_getaffinity(0))
PROXY_CORE = _allowed[0]
LOAD_CORE = _allowed[-1]


def compile_tools():
    """Compiles the C programs (once) and returns {name: path}."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    compiler = next(c for c in ("clang-19", "cc", "gcc") if shutil.which(c))
    tools = {}
    for source in sorted(HERE.glob("*.c")):
        binary = tools[source.stem] = TOOLS / source.stem
        if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
            continue
        libraries = ["-lnghttp2"] if source.stem == "grpc_backend" else []
        subprocess.run([compiler, "-O2", "-o", str(binary), str(source), *libraries], check=True)
    return tools


@contextlib.contextmanager
def on_core(core):
    """Processes started inside run on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Process:
    """A process with its children, ended when told to."""

    def __init__(self, command, core, directory, name, env=None):
        self.log = pathlib.Path(directory) / f"{name}.log"
        with on_core(core), open(self.log, "ab") as log:
            self.started = time.perf_counter()
            self.popen = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, **(env or {})}, cwd=directory)

    @property
    def pid(self):
        return self.popen.pid

    def pids(self):
        children = {}
        for path in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError):
                text = pathlib.Path(path).read_text()
                parent = int(text.rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(text.split(" ", 1)[0]))
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu(self):
        """Seconds of CPU time that the process, its children and all their threads have used."""
        total = 0
        for pid in self.pids():
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(pathlib.Path(path).read_text().split()[0])
        return total / 1e9

    def _sum(self, file, *fields):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
                    if line.split(":")[0] in fields:
                        total += int(line.split()[1])
        return total

    def resident_kib(self):
        return self._sum("status", "VmRSS")

    def peak_kib(self):
        return self._sum("status", "VmHWM")

    def private_kib(self):
        """Memory that is this process tree's alone."""
        return self._sum("smaps_rollup", "Private_Clean", "Private_Dirty")

    def proportional_kib(self):
        """Resident memory with what is shared (between parent and children, say) divided among those who share it."""
        return self._sum("smaps_rollup", "Pss")

    def running(self):
        return self.popen.poll() is None

    def errors(self):
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self):
        pids = self.pids()
        if self.running():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(3)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def run_load(command, env=None, timeout=300):
    """Runs a load generator on the load core; returns what it printed."""
    with on_core(LOAD_CORE):
        done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise Failure(f"{command[0]} ended with status {done.returncode}: {done.stdout[-600:]}")
    return done.stdout


class Failure(Exception):
    """A peer answered wrongly: its figures would mean nothing."""


def make_certificate(directory):
    """A self-signed ECDSA P-256 certificate for localhost; {"cert", "key", "both"}: paths."""
    directory = pathlib.Path(directory)
    cert, key, both = directory / "cert.pem", directory / "key.pem", directory / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", str(key), "-out", str(cert)], check=True, stderr=subprocess.DEVNULL)
    both.write_text(cert.read_text() + key.read_text())
    # Every client of TLS offers this alone, so that all servers do the same arithmetic whatever they would prefer.
    client = directory / "openssl.cnf"
    client.write_text("openssl_conf = top\n[top]\nssl_conf = ssl\n[ssl]\nsystem_default = defaults\n[defaults]\n"
                      "MinProtocol = TLSv1.3\nCiphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n")
    return {"cert": cert, "key": key, "both": both, "client": {"OPENSSL_CONF": str(client)}}
