"""What the integration tests share: a gateway process, scripted backends, raw connections."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("SLUICE_BINARY", ROOT / "build/release/sluice"))



def is_sanitized():
    """The binary is built with AddressSanitizer: slower and larger than it should be."""
    return b"__asan_init" in BINARY.read_bytes()


def free_port():
    """A port that is free now and that the kernel gives to nobody: outside of the range of ephemeral ports."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as s:
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                return port


def wait_until(condition, seconds=10, what="condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Gateway:
    """A sluice process on free ports, with a directory of manifests that the test may change."""

    def __init__(self, directory, *flags, workers=1):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.http_port = free_port()
        self.https_port = free_port()
        self.admin_port = free_port()
        self.log_path = self.directory.parent / "access.log"
        self.error_path = self.directory.parent / "stderr.log"
        defaults = {
            "--config": self.directory, "--bind": "127.0.0.1", "--http-port": self.http_port, "--https-port": self.https_port,
            "--admin-port": self.admin_port, "--workers": workers, "--access-log": self.log_path}
        if "--kubeconfig" in flags or "--in-cluster" in flags:
            del defaults["--config"]
        self.flags = ["serve", *(str(word) for flag, value in defaults.items() if flag not in flags
                                 for word in (flag, value)), *flags]
        self.process = None

    def write(self, name, text):
        """Writes a manifest the way a careful tool does: atomically."""
        path = self.directory / name
        temporary = self.directory / f".{name}.tmp"
        temporary.write_text(text)
        temporary.rename(path)

    def start(self, **options):
        self.process = subprocess.Popen([str(BINARY), *self.flags], stderr=open(self.error_path, "ab"),
                                        stdout=subprocess.DEVNULL, **options)
        wait_until(self.ready, 20, "readiness")
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError("the gateway has ended: " + self.errors())
        try:
            return self.admin("/ready").startswith("ready")
        except OSError:
            return False

    def admin(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read().decode()

    def version(self):
        return json.loads(self.admin("/server_info"))["snapshot_version"]

    def apply(self, name, text):
        """Writes a manifest and waits until a newer snapshot is in force."""
        before = self.version()
        self.write(name, text)
        wait_until(lambda: self.version() != before, 5, f"effect of {name}")

    def errors(self):
        return self.error_path.read_text(errors="replace") if self.error_path.exists() else ""

    def log_lines(self, count=1, seconds=5):
        """Access-log lines as objects, once there are at least `count`."""
        def read():
            lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
            return lines if len(lines) >= count else None
        return [json.loads(line) for line in wait_until(read, seconds, f"{count} log lines")]

    def resident_kib(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))

    def stop(self):
        """Graceful stop; a crash or a sanitizer report fails the test."""
        if self.process is None or self.process.poll() is not None and self.process.returncode == 0:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not stop: " + self.errors()[-2000:])
        errors = self.errors()
        assert self.process.returncode == 0, f"exit status {self.process.returncode}: {errors[-4000:]}"
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors[-4000:]

    def connect(self, tls=False, **options):
        return Connection("127.0.0.1", self.https_port if tls else self.http_port, **options)

    def get(self, path="/", host="test.com", headers=(), method="GET", body=None):
        with self.connect() as connection:
            connection.request(method, path, host=host, headers=headers, body=body)
            return connection.response(head_only=method == "HEAD")


class Adopted:
    """A grandchild process that became ours."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds=10):
        wait_until(lambda: self.poll() is not None, seconds, "the end of the process")
        return self.returncode


class Response:
    def __init__(self, status, headers, body, trailers=(), raw_head=b""):
        self.status = status
        self.headers = headers  # list of (lower-case name, value)
        self.body = body
        self.trailers = list(trailers)
        self.raw_head = raw_head

    def header(self, name):
        values = [v for n, v in self.headers if n == name.lower()]
        return values[0] if values else None

    def __repr__(self):
        return f"Response({self.status}, {self.headers}, {self.body[:200]!r})"


class Connection:
    """A raw client connection that can also read HTTP/1 responses."""

    def __init__(self, host, port, timeout=10, context=None, server_hostname=None):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=server_hostname)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method="GET", path="/", host="test.com", headers=(), body=None, version="HTTP/1.1"):
        lines = [f"{method} {path} {version}", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in (headers.items() if isinstance(headers, dict) else headers)]
        if body is not None and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def fill(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return data

    def read_until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                raise EOFError(f"connection closed, got {self.buffer[:200]!r}")
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def read_exactly(self, count):
        while len(self.buffer) < count:
            if not self.fill():
                raise EOFError(f"connection closed after {len(self.buffer)} of {count} bytes")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_to_end(self):
        while self.fill():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def response_head(self):
        raw = self.read_until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = [(n.strip().lower(), v.strip()) for n, v in (line.split(":", 1) for line in lines[1:])]
        return Response(status, headers, b"", raw_head=raw)

    def response(self, head_only=False, informational=None):
        response = self.response_head()
        while response.status < 200 and response.status != 101:
            if informational is not None:
                informational.append(response)
            response = self.response_head()
        if head_only or response.status in (101, 204, 304):
            return response
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            while True:
                size = int(self.read_until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    break
                response.body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
            while line := self.read_until(b"\r\n"):
                name, value = line.decode().split(":", 1)
                response.trailers.append((name.strip().lower(), value.strip()))
        elif response.header("content-length") is not None:
            response.body = self.read_exactly(int(response.header("content-length")))
        else:
            response.body = self.read_to_end()
        return response

    def closed(self, seconds=5):
        """True if the peer closes (or resets) within the time, whatever it sends before."""
        self.socket.settimeout(seconds)
        try:
            while self.fill():
                pass
            return True
        except ConnectionError:
            return True
        except (TimeoutError, socket.timeout):
            return False


class Request:
    def __init__(self, method, path, headers, body, connection_number, raw_head, trailers=()):
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.connection_number = connection_number
        self.raw_head = raw_head
        self.trailers = list(trailers)

    def header(self, name):
        values = [v for n, v in self.headers if n == name.lower()]
        return values[0] if values else None

    def all(self, name):
        return [v for n, v in self.headers if n == name.lower()]


def simple_response(body=b"ok", status="200 OK", headers=()):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Backend:
    """An HTTP/1 server that records what it gets. `handler(request, connection)` returns the bytes to answer (None: the
    handler has done everything itself); by default each request is answered 200 `ok`. With `raw`, the handler gets each
    accepted connection before anything is read."""

    def __init__(self, handler=None, raw=None, context=None, port=0, host="127.0.0.1"):
        self.handler = handler
        self.raw = raw
        self.context = context
        self.requests = []
        self.received = []  # raw bytes by connection
        self.connections = []
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, port))
        self.socket.listen(512)
        self.port = self.socket.getsockname()[1]
        self.stopped = False
        threading.Thread(target=self.run, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def run(self):
        while not self.stopped:
            try:
                accepted, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(accepted,), daemon=True).start()

    def serve(self, accepted):
        try:
            self.converse(accepted)
        except (ConnectionError, EOFError, OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                accepted.close()

    def converse(self, accepted):
        if self.context is not None:
            accepted = self.context.wrap_socket(accepted, server_side=True)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection.__new__(Connection)
        connection.socket, connection.buffer = accepted, b""
        number = len(self.connections)
        self.connections.append(connection)
        self.received.append(b"")
        if self.raw is not None:
            self.raw(connection)
            return
        fill = connection.fill

        def recording_fill():
            data = fill()
            self.received[number] += data
            return data
        connection.fill = recording_fill
        while True:
            request = self.read_request(connection, number)
            self.requests.append(request)
            answer = self.handler(request, connection) if self.handler else simple_response()
            if answer is not None:
                connection.send(answer)

    def read_request(self, connection, number):
        raw = connection.read_until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = [(n.strip().lower(), v.strip()) for n, v in (line.split(":", 1) for line in lines[1:])]
        request = Request(method, path, headers, b"", number, raw)
        if getattr(self, "lazy_body", False):
            return request
        if request.header("content-length") is not None:
            request.body = connection.read_exactly(int(request.header("content-length")))
        elif request.header("transfer-encoding") is not None:
            while size := int(connection.read_until(b"\r\n").split(b";")[0], 16):
                request.body += connection.read_exactly(size)
                connection.read_exactly(2)
            while line := connection.read_until(b"\r\n"):
                name, value = line.decode().split(":", 1)
                request.trailers.append((name.strip().lower(), value.strip()))
        return request

    def stop(self):
        self.stopped = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                connection.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def bridge(**services):
    """McpBridge `default` with static services: name → address or list of addresses, or a dict of registry fields."""
    registries = []
    for name, value in services.items():
        fields = value if isinstance(value, dict) else {
            "type": "static", "domain": value if isinstance(value, str) else ",".join(value), "port": 80}
        registries.append({"name": name.replace("_", "-"), **fields})
    return json.dumps({"apiVersion": "networking.higress.io/v1", "kind": "McpBridge",
                       "metadata": {"name": "default", "namespace": "higress-system"},
                       "spec": {"registries": registries}}) + "\n"


def ingress(name, destination, host=None, path="/", path_type="Prefix", annotations=None, tls_secret=None,
            namespace="higress-system", paths=None):
    backend = {"resource": {"apiGroup": "networking.higress.io", "kind": "McpBridge", "name": "default"}}
    rule = {"http": {"paths": [{"path": p, "pathType": t, "backend": backend} for p, t in (paths or [(path, path_type)])]}}
    if host:
        rule["host"] = host
    spec = {"ingressClassName": "higress", "rules": [rule]}
    if tls_secret:
        spec["tls"] = [{"hosts": [host], "secretName": tls_secret}]
    return json.dumps({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                       "metadata": {"name": name, "namespace": namespace,
                                    "annotations": {"higress.io/destination": destination, **(annotations or {})}},
                       "spec": spec}) + "\n"


def documents(*texts):
    return "\n---\n".join(texts)
