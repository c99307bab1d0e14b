"""Operations: stopping, replacing the binary, logs, limits against slow and many clients, what the admin port says, and the
fields that the gateway adds."""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import Adopted, bridge, documents, ingress, simple_response, wait_until
from peers import H2Client, descriptors, memory, metrics, nothing_left, tls_secret

MIB = 1 << 20


# --- stopping and replacing


def test_sigterm_drains(proxy):
    """What is under way finishes and is told to close; idle connections and new ones are closed; the exit status is 0."""
    release = threading.Event()
    gateway, backend = proxy(lambda r, c: (release.wait(10) if r.path == "/slow" else None, simple_response())[1])
    with gateway.connect() as slow, gateway.connect() as idle, gateway.connect() as upload:
        idle.request()
        assert idle.response().status == 200
        slow.request(path="/slow")
        upload.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf.")
        wait_until(lambda: memory(gateway)["exchanges"] == 2)
        gateway.process.send_signal(signal.SIGTERM)
        assert idle.closed(3)

        def refused():
            try:
                gateway.connect().socket.close()
                return False
            except OSError:
                return True
        wait_until(refused, 3, "refusal of new connections")
        assert gateway.process.poll() is None
        upload.send(b"rest.")
        response = upload.response()
        assert response.status == 200 and response.header("connection") == "close"
        release.set()
        response = slow.response()
        assert response.status == 200 and response.header("connection") == "close"
        assert slow.closed(3)
    assert gateway.process.wait(5) == 0
    assert len(gateway.log_lines(3)) == 3  # all flushed


def test_drain_deadline(proxy):
    release = threading.Event()
    gateway, _ = proxy(lambda r, c: release.wait(20) and None, "--drain-deadline-ms", "500")
    with gateway.connect() as client:
        client.request()
        wait_until(lambda: memory(gateway)["exchanges"] == 1)
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(5) == 0
        assert 0.4 < time.monotonic() - started < 3
    release.set()


class Load:
    """Constant load on a gateway; `failures` says what went wrong."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.stop = threading.Event()
        self.failures = []
        self.counts = {"kept": 0, "new": 0, "post": 0, "h2": 0}
        self.slowest = 0.0
        self.threads = [threading.Thread(target=self.guard, args=(f,)) for f in (self.kept, self.new, self.post, self.h2)]
        for thread in self.threads:
            thread.start()

    def guard(self, function):
        while not self.stop.is_set():
            try:
                function()
            except Exception as error:
                self.failures.append(error)
                return

    def timed(self, kind, started):
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.counts[kind] += 1

    def kept(self, method="GET", kind="kept"):
        with self.gateway.connect() as client:
            while not self.stop.is_set():
                started = time.monotonic()
                client.request(method, body=b"x" * 3000 if method == "POST" else None)
                response = client.response()
                assert response.status == 200
                self.timed(kind, started)
                if response.header("connection") == "close":
                    return  # the old process is draining; the next connection goes to the new one
                time.sleep(0.001)

    def post(self):
        self.kept("POST", "post")

    def new(self):
        started = time.monotonic()
        assert self.gateway.get("/").status == 200
        self.timed("new", started)

    def h2(self):
        with H2Client(self.gateway.http_port) as client:
            while not self.stop.is_set():
                started = time.monotonic()
                assert client.get().status == 200
                self.timed("h2", started)
                client.pump(0.001)
                if client.goaway or client.closed:
                    return

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(20)
        assert not self.failures, self.failures
        assert min(self.counts.values()) > 10, self.counts


def test_binary_is_replaced_under_load(proxy):
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the new process becomes our child
    gateway, _ = proxy(workers=2)
    load = Load(gateway)
    for i in range(3):
        before = gateway.process
        count = dict(load.counts)
        wait_until(lambda: all(load.counts[k] > count[k] + 20 for k in count) or load.failures, 20, "load")
        before.send_signal(signal.SIGUSR2)

        def started():
            found = re.findall(r"started the new binary as process (\d+)", gateway.errors())
            return len(found) == i + 1 and int(found[-1])
        pid = wait_until(started, 5, "the new process")
        assert before.wait(20) == 0
        gateway.process = Adopted(pid)
        wait_until(gateway.ready, 5)
    load.finish()
    assert gateway.get("/").status == 200


def test_replacement_that_cannot_start_changes_nothing(start_gateway, start_backend, tmp_path, monkeypatch):
    """The new binary ends at once: the old process goes on."""
    import harness
    link = tmp_path / "sluice"
    link.symlink_to(harness.BINARY)
    monkeypatch.setattr(harness, "BINARY", link)
    backend = start_backend()
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")))
    link.unlink()
    link.symlink_to("/bin/false")
    gateway.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "started the new binary" in gateway.errors() or "cannot start" in gateway.errors(), 5)
    for _ in range(20):
        assert gateway.get("/").status == 200
    assert gateway.process.poll() is None


# --- logs


def test_log_is_reopened(proxy):
    gateway, _ = proxy()
    assert gateway.get("/one").status == 200
    assert gateway.log_lines(1)[0]["path"] == "/one"
    moved = gateway.log_path.with_name("access.log.1")
    gateway.log_path.rename(moved)
    assert gateway.get("/two").status == 200
    wait_until(lambda: "/two" in moved.read_text())
    gateway.process.send_signal(signal.SIGUSR1)
    wait_until(gateway.log_path.exists)
    assert gateway.get("/three").status == 200
    assert [line["path"] for line in gateway.log_lines(1)] == ["/three"]
    assert len(moved.read_text().splitlines()) == 2


def test_full_disk_is_harmless(start_gateway, start_backend):
    backend = start_backend()
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")), "--access-log", "/dev/full")
    with nothing_left(gateway):
        with gateway.connect() as client:
            for _ in range(3000):
                client.request()
                assert client.response().status == 200
    assert metrics(gateway)["sluice_access_log_dropped_total"] > 0


def test_custom_format(start_gateway, start_backend):
    backend = start_backend(lambda r, c: simple_response(headers=["X-Answer: forty two"]))
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")), "--access-log-format",
                            "%REQ(:METHOD)% %REQ(:PATH)% %REQ(X-MISSING?USER-AGENT):5% [%RESP(X-ANSWER)%] %RESPONSE_CODE% "
                            "%PROTOCOL% %BYTES_SENT% %UPSTREAM_HOST% %RESPONSE_FLAGS% %START_TIME(%Y)% %ROUTE_NAME%")
    gateway.get("/a?b", headers={"User-Agent": "curl/8.0"})
    wait_until(lambda: gateway.log_path.exists() and gateway.log_path.read_text())
    year = time.gmtime().tm_year
    assert gateway.log_path.read_text() == f"GET /a?b curl/ [forty two] 200 HTTP/1.1 2 {backend.address} - {year} all\n"


# --- limits


def test_descriptor_exhaustion(start_gateway, start_backend, monkeypatch):
    """With 120 descriptors, 300 clients: those that fit are served, the rest wait; then all is as before."""
    import harness
    start = harness.Gateway.start
    limit = (120, 120)
    monkeypatch.setattr(harness.Gateway, "start", lambda self: start(
        self, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)))
    backend = start_backend()
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")))
    assert gateway.get("/").status == 200
    clients = []
    for _ in range(300):
        with contextlib.suppress(OSError):
            clients.append(gateway.connect(timeout=1))
    wait_until(lambda: descriptors(gateway) >= limit[0] - 2, 5, "exhaustion")
    served = 0
    for client in clients[:20]:
        with contextlib.suppress(OSError, EOFError):
            client.request(headers={"Connection": "close"})
            served += client.response().status in (200, 503)
    assert served == 20
    assert gateway.process.poll() is None
    for client in clients:
        client.socket.close()
    wait_until(lambda: memory(gateway)["connections"] == 0, 10, "the connections to go")
    for _ in range(50):
        assert gateway.get("/").status == 200


def test_no_descriptor_for_the_upstream(start_gateway, start_backend, start_h2_backend, monkeypatch):
    """A client that is in, with HTTP/1 or HTTP/2, is told so when there is none for the upstream; then all is as before."""
    import harness
    start = harness.Gateway.start
    monkeypatch.setattr(harness.Gateway, "start", lambda self: start(
        self, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))))
    one, two = start_backend(), start_h2_backend()
    gateway = start_gateway(documents(
        bridge(one=one.address, two={"type": "static", "domain": two.address, "port": 80, "protocol": "http2"}),
        ingress("one", "one.static:80", path="/one"), ingress("two", "two.static:80", path="/two")))
    fillers = []
    with gateway.connect() as h1, H2Client(gateway.http_port) as h2:
        h2.until(lambda: h2.settings)
        wait_until(lambda: memory(gateway)["connections"] >= 2)
        while descriptors(gateway) < 120 and len(fillers) < 300:
            fillers.append(gateway.connect(timeout=1))
        wait_until(lambda: descriptors(gateway) >= 118, 5, "exhaustion")
        for path in "/one", "/two":
            h1.request(path=path)
            assert h1.response().status == 503
            assert h2.get(path).status == 503
        assert {line["response_flags"] for line in gateway.log_lines(4)} == {"UF,URX"}
        for filler in fillers:
            filler.socket.close()
        wait_until(lambda: descriptors(gateway) < 60, 10, "descriptors")
        for path in "/one", "/two":
            h1.request(path=path)
            assert h1.response().status == 200
            assert h2.get(path).status == 200


def test_connection_cap(proxy):
    gateway, _ = proxy(None, "--max-connections", "10")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.connect()) for _ in range(10)]
        for client in clients:
            client.request()
            assert client.response().status == 200
        with gateway.connect() as extra:
            assert extra.closed(3) and not extra.buffer
        for client in clients:
            client.request()
            assert client.response().status == 200  # those accepted go on
    assert metrics(gateway)['sluice_listener_connections_refused_total{listener="http"}'] == 1
    wait_until(lambda: memory(gateway)["connections"] == 0)
    assert gateway.get("/").status == 200


def test_memory_cap(proxy):
    """Above the limit new requests get 503; what was accepted goes on, and afterwards all is served again."""
    stop = threading.Event()

    def handler(request, connection):
        if request.path != "/flood":
            return simple_response()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.is_set():
            connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        return b"0\r\n\r\n"
    gateway, _ = proxy(handler, "--max-memory-mib", "2")
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(gateway.connect())
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.request(path="/flood")
        response = wait_until(lambda: (r := gateway.get("/")).status == 503 and r, 15, "503")
        assert response.body == b"overloaded"
        assert memory(gateway)["block_bytes_in_use"] < 32 * MIB
    stop.set()
    wait_until(lambda: gateway.get("/").status == 200, 10, "recovery")
    assert any(line["response_flags"] == "OM" or line["response_code_details"] == "overload" for line in gateway.log_lines(1))


def test_slow_head_gets_408(proxy):
    gateway, backend = proxy(None, "--header-timeout-ms", "500")
    with nothing_left(gateway):
        started = time.monotonic()
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Sl")
            response = client.response()
            assert response.status == 408 and response.header("connection") == "close"
            assert 0.4 < time.monotonic() - started < 3
            assert client.closed()
        # trickling does not help
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            started = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() - started < 3 and not client.buffer:
                    client.send(b"X-A: b\r\n")
                    client.socket.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        client.fill()
            assert client.buffer.startswith(b"HTTP/1.1 408") and time.monotonic() - started < 2
    assert not backend.requests


def test_slow_body_gets_408(proxy):
    """Less than --min-body-rate over --body-rate-window-ms."""
    gateway, _ = proxy(None, "--min-body-rate", "100", "--body-rate-window-ms", "3000")
    with nothing_left(gateway):
        with gateway.connect(timeout=40) as slow, gateway.connect(timeout=40) as fair:
            for client in (slow, fair):
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            started = time.monotonic()
            slow.socket.setblocking(False)
            while time.monotonic() - started < 6:
                slow.socket.send(b"x" * 10)
                fair.send(b"x" * 150)
                with contextlib.suppress(BlockingIOError):
                    slow.fill()
                if slow.buffer:
                    break
                time.sleep(0.5)
            assert slow.buffer.startswith(b"HTTP/1.1 408"), slow.buffer
            assert time.monotonic() - started > 2.5
            fair.send(b"x" * 1000)  # that one is not cut off
            time.sleep(0.2)
            fair.socket.setblocking(False)
            with pytest.raises(BlockingIOError):
                fair.socket.recv(1)


def test_slow_reader_is_cut_off(proxy):
    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            connection.send(b"x" * 100000)
    gateway, _ = proxy(handler, "--write-timeout-ms", "1000")
    with nothing_left(gateway):
        with gateway.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.request()
            wait_until(lambda: memory(gateway)["connections"] == 1)
            wait_until(lambda: memory(gateway)["connections"] == 0, 8, "the cut")
    line = gateway.log_lines(1)[0]
    assert line["response_flags"] in ("SI", "DC") and int(line["bytes_sent"]) < 100_000_000


SLOW = {"slow heads": ["-H", "-i", "1", "-r", "150"], "slow bodies": ["-B", "-i", "1", "-r", "150", "-s", "8192"],
        "many ranges": ["-R", "-r", "150", "-a", "10", "-b", "3000"],
        "slow reading": ["-X", "-r", "150", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3"]}


@pytest.mark.parametrize("mode", SLOW)
def test_slowhttptest(proxy, tmp_path, mode):
    """300 slow connections for some seconds: ordinary requests go on as if nothing were."""
    gateway, _ = proxy(lambda r, c: simple_response(b"x" * 100000 if r.method == "GET" else b"ok"))
    with nothing_left(gateway):
        attack = subprocess.Popen(["slowhttptest", "-c", "300", "-l", "6", "-u", f"http://127.0.0.1:{gateway.http_port}/", "-p", "3",
                                   *SLOW[mode]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path)
        wait_until(lambda: memory(gateway)["connections"] > 100 or mode == "many ranges", 10, "the attack")
        load = Load(gateway)
        peak = 0
        while attack.poll() is None:
            peak = max(peak, memory(gateway)["connections"])
            time.sleep(0.2)
        out = attack.stdout.read().decode(errors="replace")
        load.finish()
    assert peak > 100 or mode == "many ranges", (peak, out[-1500:])
    assert load.slowest < 2, load.slowest
    assert "service available:   NO" not in re.sub(r"\x1b\[[0-9;]*m", "", out), out[-1500:]


# --- what the admin port says


def test_metrics_agree_with_traffic(h2_proxy, authority):
    gateway, _ = h2_proxy(lambda r, c: simple_response(b"12345", "404 Not Found" if r.path == "/missing" else "200 OK"))
    before = metrics(gateway)
    for _ in range(7):
        gateway.get("/", method="POST", body=b"abc")
    for _ in range(3):
        gateway.get("/missing")
    gateway.get("/", host="no.route")
    with H2Client(gateway.https_port, context=authority.client_context(["h2"])) as client:
        for _ in range(5):
            client.get()
    with gateway.connect() as client:
        client.send(b"BAD\r\n\r\n")
        assert client.closed()
    wait_until(lambda: metrics(gateway)["sluice_exchanges_active"] == 0)
    after = metrics(gateway)

    def grown(name):
        return after.get(name, 0) - before.get(name, 0)
    assert grown('sluice_listener_http1_requests_total{listener="http"}') == 11
    assert grown('sluice_listener_http2_requests_total{listener="https"}') == 5
    assert grown('sluice_listener_tls_handshakes_total{listener="https"}') == 1
    assert grown('sluice_listener_refused_requests_total{listener="http"}') == 1
    assert grown('sluice_listener_connections_total{listener="http"}') >= 12
    by_class = {match[2]: value for name, value in after.items()
                if (match := re.match(r'(sluice_route_\w*)\{.*route="all".*class="(\w+)"', name))
                or (match := re.match(r'(sluice_route_\w*)\{.*class="(\w+)".*route="all"', name))}
    assert by_class.get("2xx") == 12 and by_class.get("4xx") == 3, [n for n in after if "route" in n]
    counts = [v for n, v in after.items() if n.startswith("sluice_route") and n.endswith('_count{route="all"}')]
    assert counts and set(counts) == {15}
    buckets = [v for n, v in after.items() if n.startswith("sluice_route") and "_bucket" in n and 'route="all"' in n and '"+Inf"' in n]
    assert buckets and set(buckets) == {15}
    for line in gateway.admin("/stats/prometheus").splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)+\})? [-+.\deE]+|", line), line


def test_dump_has_no_secrets(start_gateway, start_backend, authority):
    pair, client_pair = authority.issue("test.com"), authority.issue("gw", client=True)
    backend = start_backend()
    gateway = start_gateway(documents(
        bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "https"}), tls_secret("cert", pair),
        tls_secret("mine", client_pair, ca=authority.pem), ingress("all", "be.static:80", host="test.com", tls_secret="cert", annotations={
            "nginx.ingress.kubernetes.io/proxy-ssl-secret": "higress-system/mine"})))
    for path in ("/config_dump", "/objects", "/clusters", "/server_info", "/stats/prometheus"):
        text = gateway.admin(path)
        assert "PRIVATE KEY" not in text
        for key in (pair[1], client_pair[1]):
            for line in key.splitlines()[1:-1]:
                assert line not in text, path
    dump = json.loads(gateway.admin("/config_dump"))
    assert "test.com" in json.dumps(dump) and "be.static" in json.dumps(dump)
    assert "PRIVATE KEY" not in gateway.errors()


def test_clusters_memory_logging_explain(proxy):
    gateway, backend = proxy()
    for _ in range(4):
        assert gateway.get("/x").status == 200
    endpoint = json.loads(gateway.admin("/clusters"))[0]["endpoints"][0]
    assert endpoint["address"] == backend.address and endpoint["healthy"] is True
    assert endpoint["requests"] == 4 and endpoint["active_requests"] == 0 and endpoint["failures"] == 0
    facts = memory(gateway)
    assert 0 < facts["resident_bytes"] < 200 * MIB and facts["exchanges"] == 0
    assert gateway.admin("/logging") == "level: info\n"
    assert gateway.admin("/logging?level=debug", method="PUT") == "level: debug\n"
    assert gateway.admin("/logging") == "level: debug\n"
    with pytest.raises(OSError):
        gateway.admin("/logging?level=loud", method="PUT")
    explained = gateway.admin("/explain?request=GET%20http://test.com/x")
    assert "all" in explained and "be.static" in explained
    assert json.loads(gateway.admin("/explain?request=GET%20http://test.com/x&format=json"))
    with pytest.raises(OSError):
        gateway.admin("/nothing")


# --- fields added (parity E.1, E.2)


def test_request_fields_of_a_direct_client(proxy):
    gateway, backend = proxy()
    before = int(time.time() * 1000)
    response = gateway.get("/", host="Test.com:80", headers=[
        ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "mine"),
        ("X-Envoy-Retry-On", "5xx"), ("X-Envoy-Upstream-Rq-Timeout-Ms", "1"), ("X-Envoy-External-Address", "9.9.9.9"),
        ("X-Envoy-Internal", "false"), ("Original-Host", "forged"), ("Req-Start-Time", "1"), ("X-Real-Ip", "8.8.8.8"),
        ("X-Forwarded-Host", "kept"), ("Forwarded", "for=kept")])
    assert response.status == 200
    request = backend.requests[0]
    assert request.header("x-forwarded-for") == "1.2.3.4, 5.6.7.8,127.0.0.1"
    assert request.header("x-forwarded-proto") == "http"  # no proxy in front is trusted
    assert request.all("x-request-id") == ["mine"]  # a private client may set it
    for name in ("x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "x-envoy-external-address"):
        assert request.header(name) is None, name
    assert request.all("x-envoy-internal") == ["true"]
    assert request.all("original-host") == ["Test.com:80"]
    assert len(request.all("req-start-time")) == 1
    assert before - 2000 < int(request.header("req-start-time")) < time.time() * 1000 + 2000
    assert request.header("x-envoy-attempt-count") == "1"
    assert request.header("x-real-ip") == "8.8.8.8" and request.header("x-forwarded-host") == "kept"
    assert request.header("forwarded") == "for=kept"
    assert request.header("x-envoy-expected-rq-timeout-ms") is None  # no timeout is set
    for name in ("req-cost-time", "req-arrive-time", "resp-start-time", "x-envoy-upstream-service-time", "date"):
        assert response.header(name), name
    assert response.header("x-request-id") is None


def test_request_id_is_made(proxy):
    gateway, backend = proxy()
    gateway.get("/")
    gateway.get("/")
    ids = [r.header("x-request-id") for r in backend.requests]
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)
    assert ids[0] != ids[1]
    assert [line["request_id"] for line in gateway.log_lines(2)] == ids


def proxied(gateway, source, headers=()):
    with gateway.connect() as client:
        client.send(f"PROXY TCP4 {source} 198.51.100.1 5555 80\r\n".encode())
        client.request(headers=headers)
        return client.response()


def test_external_clients(proxy):
    """An external client's own id and internal marks do not count."""
    gateway, backend = proxy(None, "--proxy-protocol")
    assert proxied(gateway, "203.0.113.7", [("X-Request-Id", "mine"), ("X-Envoy-Internal", "true")]).status == 200
    request = backend.requests[0]
    assert len(request.all("x-request-id")) == 1 and request.header("x-request-id") != "mine"
    assert request.header("x-envoy-internal") is None
    assert request.header("x-envoy-external-address") == "203.0.113.7"
    assert request.header("x-forwarded-for") == "203.0.113.7"


def test_trusted_hop(proxy):
    """One proxy in front: its last X-Forwarded-For entry is the client, its X-Forwarded-Proto is believed."""
    gateway, backend = proxy(None, "--trusted-hops", "1")
    gateway.get("/", headers=[("X-Forwarded-For", "1.1.1.1, 203.0.113.9"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "mine"),
                              ("X-Envoy-Internal", "true")])
    request = backend.requests[0]
    assert request.header("x-forwarded-for") == "1.1.1.1, 203.0.113.9,127.0.0.1"
    assert request.header("x-forwarded-proto") == "https"
    assert request.header("x-envoy-external-address") == "203.0.113.9" and request.header("x-envoy-internal") is None
    assert request.header("x-request-id") != "mine"
    gateway.get("/", headers=[("X-Forwarded-For", "203.0.113.9, 10.0.0.9"), ("X-Request-Id", "mine")])
    request = backend.requests[1]
    assert request.header("x-envoy-internal") == "true" and request.header("x-request-id") == "mine"
    gateway.get("/")
    assert backend.requests[2].header("x-envoy-internal") == "true"  # the peer itself
    assert backend.requests[2].header("x-forwarded-for") == "127.0.0.1"


def test_fields_of_a_rewritten_request(proxy):
    gateway, backend = proxy(annotations={"nginx.ingress.kubernetes.io/rewrite-target": "/new",
                                          "nginx.ingress.kubernetes.io/upstream-vhost": "inner.host", "higress.io/timeout": "5"})
    assert gateway.get("/old?q=1").status == 200
    request = backend.requests[0]
    assert request.path.startswith("/new") and request.header("x-envoy-original-path") == "/old?q=1"
    assert request.header("host") == "inner.host" and request.header("x-envoy-original-host") == "test.com"
    assert request.header("original-host") == "test.com"
    assert request.header("x-envoy-expected-rq-timeout-ms") == "5000"
    line = gateway.log_lines(1)[0]
    assert line["path"] == "/old?q=1" and line["authority"] == "test.com"


def test_descriptors_and_memory_after_mixed_traffic(h2_proxy, authority):
    """Everything at once, broken off in all ways, leaves nothing."""
    def handler(request, connection):
        if request.path == "/die":
            raise EOFError
        if request.path == "/stream":
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(50):
                connection.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            return b"0\r\n\r\n"
        return simple_response(request.body)
    gateway, _ = h2_proxy(handler, workers=2)
    gateway.get("/")
    with nothing_left(gateway):
        for round_ in range(5):
            with H2Client(gateway.https_port, context=authority.client_context(["h2"])) as client:
                streams = [client.request("POST", path, body=b"y" * 20000) for path in ("/", "/die", "/stream") for _ in range(10)]
                for stream in streams[::2]:
                    client.response(stream)
                client.reset(client.request("POST", end=False))
            for path in ("/", "/die", "/stream"):
                with gateway.connect() as client:
                    client.request("POST", path, body=b"z" * 1000)
                    if round_ % 2:
                        with contextlib.suppress(EOFError, ConnectionError):
                            client.response()
