"""ssl-passthrough: TLS that is not ended at the gateway, with real TLS servers behind it."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import harness
from harness import Adopted, Backend, documents, simple_response, wait_until
from peers import Authority, H2Backend, H2Client, manifest, metrics, nothing_left, service, service_ingress, tls_secret

PASS = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}
HOST = "pass.test"


def rule(name, target, host=HOST, created=1, annotations=PASS, port=443, **options):
    document = json.loads(service_ingress(name, target, port, host=host, annotations=annotations, **options))
    document["metadata"]["creationTimestamp"] = f"2024-01-01T00:00:{created:02d}Z"
    return json.dumps(document) + "\n"


@pytest.fixture
def inner():
    """The authority of the servers behind the gateway."""
    return Authority("Inner CA")


@pytest.fixture
def start_tls(start_backend, inner):
    def start(handler=None, names=(HOST,), raw=None, port=0, **options):
        return start_backend(handler, raw=raw, context=inner.server_context(*names, **options), port=port)
    return start


@pytest.fixture
def passing(start_gateway, start_tls):
    """A gateway whose host is passed through to one TLS server: passing(handler, *flags) → (gateway, server)."""
    def start(handler=None, *flags, raw=None, annotations=PASS, more=(), workers=1, **options):
        backend = start_tls(handler, raw=raw, **options)
        return start_gateway(documents(service("tls", 443, backend.port), rule("pass", "tls", annotations=annotations),
                                       *more), *flags, workers=workers), backend
    return start


def connect(gateway, authority, host=HOST, **options):
    return gateway.connect(tls=True, context=authority.client_context(**options), server_hostname=host)


def ask(gateway, authority, host=HOST, path="/", **options):
    with connect(gateway, authority, host, **options) as client:
        client.request("GET", path, host=host)
        return client.response()


def outcome(line):
    return line["response_code_details"]


@pytest.mark.parametrize("prefix", ["nginx.ingress.kubernetes.io/", "higress.io/"])
def test_client_speaks_with_the_service(passing, inner, prefix):
    gateway, backend = passing(annotations={prefix + "ssl-passthrough": "true"})
    with nothing_left(gateway):
        for _ in range(3):
            response = ask(gateway, inner)  # the certificate is the server's own
            assert response.status == 200 and response.body == b"ok"
    request = backend.requests[0]
    assert request.header("x-forwarded-for") is None and request.header("host") == HOST  # nothing was touched
    line = gateway.log_lines(3)[0]
    assert line["requested_server_name"] == HOST and line["upstream_host"] == backend.address
    assert int(line["bytes_sent"]) > 500 and int(line["bytes_received"]) > 200 and line["route_name"] == "default/pass"
    assert outcome(line) == "ssl_passthrough" and line["response_flags"] == "-"
    totals = metrics(gateway)
    assert totals['sluice_passthrough_connections_total{result="relayed"}'] == 3
    assert totals["sluice_passthrough_connections_active"] == 0
    assert totals['sluice_passthrough_bytes_total{direction="sent"}'] > 1500
    assert totals['sluice_listener_tls_handshakes_total{listener="https"}'] == 0


def test_client_certificates_end_to_end(passing, inner):
    clients = Authority("Clients")
    gateway, _ = passing(client_authority=clients)
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        ask(gateway, inner)
    pair = clients.issue("me", client=True)
    assert ask(gateway, inner, certificate=pair).status == 200


def test_http2_end_to_end(start_gateway, inner):
    with H2Backend(context=inner.server_context(HOST, alpn=["h2"])) as backend:
        gateway = start_gateway(documents(service("tls", 443, backend.port), rule("pass", "tls")))
        with H2Client(gateway.https_port, context=inner.client_context(["h2"]), sni=HOST) as client:
            for _ in range(3):
                stream = client.request(host=HOST)
                assert client.response(stream).body == b"ok"
        assert len(backend.connections) == 1


def test_large_transfers_and_back_pressure(passing, inner):
    size = 100 << 20
    block = os.urandom(1 << 20)
    received = hashlib.sha256()

    def handler(request, connection):
        if request.path == "/get":
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(100):
                connection.send(block)
        else:
            left = size
            while left:
                data = connection.buffer or connection.socket.recv(1 << 18)
                connection.buffer = b""
                received.update(data)
                left -= len(data)
            return simple_response()

    gateway, backend = passing(handler)
    backend.lazy_body = True
    expected = hashlib.sha256(block * 100).hexdigest()
    before = gateway.resident_kib()
    with nothing_left(gateway):
        with connect(gateway, inner) as client:
            client.request("GET", "/get", host=HOST)
            head = client.response_head()
            assert head.header("content-length") == str(size)
            time.sleep(0.5)  # everything between is full now
            assert gateway.resident_kib() - before < 4096
            digest, left = hashlib.sha256(client.buffer), size - len(client.buffer)
            while left:
                data = client.socket.recv(1 << 18)
                digest.update(data)
                left -= len(data)
            assert digest.hexdigest() == expected
        with connect(gateway, inner) as client:
            client.send(b"POST / HTTP/1.1\r\nhost: pass.test\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(100):
                client.send(block)
            assert client.response().status == 200
            assert received.hexdigest() == expected
    assert gateway.resident_kib() - before < 8192


def raw_hello(authority, host=HOST):
    """The bytes of a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = authority.client_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return session, incoming, outgoing


def converse(session, incoming, outgoing, sock, first, host=HOST):
    """Finishes the handshake whose ClientHello was sent in another form, and gets one response."""
    def step(action):
        while True:
            try:
                result = action()
                if outgoing.pending:
                    sock.sendall(outgoing.read())
                return result
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
    first()
    step(session.do_handshake)
    step(lambda: session.write(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()))
    return step(lambda: session.read(1000))


@pytest.mark.parametrize("host", [HOST, "own.test"])
@pytest.mark.parametrize("piece", [1, 7, 100])
def test_client_hello_in_pieces(passing, inner, authority, start_backend, host, piece):
    """TCP segments of any size; of a host that is passed through and of one whose TLS ends here, from which nothing gets
    lost either."""
    own = start_backend()
    gateway, _ = passing(more=[service("own", 80, own.port), tls_secret("own", authority.issue("own.test"), namespace="default"),
                               rule("own", "own", port=80, host="own.test", annotations={}, secret="own")])
    session, incoming, outgoing = raw_hello(inner if host == HOST else authority, host)
    hello = outgoing.read()

    def slowly():
        for at in range(0, len(hello), piece):
            sock.sendall(hello[at:at + piece])
            if at % (piece * 16) == 0:
                time.sleep(0.002)
    with socket.create_connection(("127.0.0.1", gateway.https_port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert b"200 OK" in converse(session, incoming, outgoing, sock, slowly, host)


def test_client_hello_in_several_records(passing, inner):
    gateway, _ = passing()
    session, incoming, outgoing = raw_hello(inner)
    hello = outgoing.read()[5:]
    records = b"".join(b"\x16\x03\x01" + struct.pack("!H", len(hello[i:i + 50])) + hello[i:i + 50]
                       for i in range(0, len(hello), 50))
    with socket.create_connection(("127.0.0.1", gateway.https_port), 10) as sock:
        assert b"200 OK" in converse(session, incoming, outgoing, sock, lambda: sock.sendall(records))


def test_what_is_no_client_hello(passing):
    gateway, backend = passing()
    with nothing_left(gateway):
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x02\x00\x00\x01\x01", b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + b"x" * 20000):
            with gateway.connect(tls=True) as client:
                client.send(data)
                assert client.closed(), data[:20]
        with gateway.connect(tls=True) as client:  # and one that ends in the middle
            client.send(b"\x16\x03\x01\x02\x00\x01")
            client.socket.shutdown(socket.SHUT_WR)
            assert client.closed(3)
        silent = [gateway.connect(tls=True) for _ in range(3)]
        silent[1].send(b"\x16")
        silent[2].send(b"\x16\x03\x01\x02\x00\x01\x00")
        began = time.monotonic()
        for client in silent:
            assert client.closed(15)
        assert 5 < time.monotonic() - began < 14
    assert not backend.connections


def test_half_close_in_both_directions(passing):
    """The bytes behind the ClientHello need not be TLS for the gateway: each direction ends by itself."""
    def raw(connection):
        data = b""
        while piece := connection.socket.recv(65536):
            data += piece
        connection.socket.sendall(b"got %d" % len(data))
        connection.socket.shutdown(socket.SHUT_WR)
    gateway, backend = passing()
    backend.context, backend.raw = None, raw
    _, _, outgoing = raw_hello(Authority())
    hello = outgoing.read()
    with nothing_left(gateway):
        with gateway.connect(tls=True) as client:
            client.send(hello + b"x" * 100_000)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read_to_end() == b"got %d" % (len(hello) + 100_000)

        def server_ends_first(connection):
            connection.socket.sendall(b"bye")
            connection.socket.shutdown(socket.SHUT_WR)
            while connection.fill():
                pass
            results.append(len(connection.buffer))
        results = []
        backend.raw = server_ends_first
        with gateway.connect(tls=True) as client:
            client.send(hello)
            assert client.read_to_end() == b"bye"
            client.send(b"y" * 50_000)
            client.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: results)
            assert results == [len(hello) + 50_000]


def test_broken_connections_are_passed_on(passing, inner):
    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin")
        if request.path == "/kill":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()
        else:
            while connection.fill():
                pass
            ended.set()
    ended = threading.Event()
    gateway, _ = passing(handler)
    with nothing_left(gateway):
        with connect(gateway, inner) as client:
            client.request("GET", "/kill", host=HOST)
            with pytest.raises((ConnectionError, EOFError, ssl.SSLError)):
                client.response()
        line = gateway.log_lines(1)[0]
        assert line["response_flags"] == "UC" and outcome(line) == "ssl_passthrough{upstream_disconnect}"
        client = connect(gateway, inner)
        client.request("GET", "/", host=HOST)
        client.read_until(b"begin")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        assert ended.wait(5)
        assert gateway.log_lines(2)[1]["response_flags"] == "DC"


def test_endpoints_that_are_down(start_gateway, start_tls, inner):
    dead = socket.socket()
    dead.bind(("127.0.0.9", 0))  # nobody listens
    port = dead.getsockname()[1]
    alive = start_tls(port=port)
    gateway = start_gateway(documents(
        service("tls", 443, port, addresses=("127.0.0.1", "127.0.0.9", "127.0.0.8")), rule("pass", "tls"),
        service("down", 443, port, addresses=("127.0.0.9", "127.0.0.8")), rule("down", "down", host="down.test"),
        service("none", 443, 1, addresses=()), rule("none", "none", host="none.test")))
    with nothing_left(gateway):
        for _ in range(20):
            assert ask(gateway, inner).status == 200  # another endpoint is tried
        assert alive.requests
        for i, (host, flag, why) in enumerate((("down.test", "UF", "connection_failure"), ("none.test", "UH", "no_healthy_upstream"))):
            with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):
                ask(gateway, inner, host=host)
            line = gateway.log_lines(21 + i)[-1]
            assert (line["response_flags"], outcome(line)) == (flag, "ssl_passthrough{" + why + "}")
    totals = metrics(gateway)
    assert totals['sluice_passthrough_connections_total{result="failed"}'] == 2
    assert totals['sluice_cluster_connect_failures_total{cluster="outbound|443||tls.default.svc.cluster.local"}'] > 5
    dead.close()


def test_load_is_balanced(start_gateway, start_tls, inner):
    first = start_tls()
    others = [Backend(context=inner.server_context(HOST), port=first.port, host=f"127.0.0.{i}") for i in (2, 3)]
    gateway = start_gateway(documents(
        service("tls", 443, first.port, addresses=("127.0.0.1", "127.0.0.2", "127.0.0.3")),
        rule("pass", "tls", annotations={**PASS, "nginx.ingress.kubernetes.io/load-balance": "round_robin"})))
    for _ in range(30):
        assert ask(gateway, inner).status == 200
    assert [len(b.connections) for b in (first, *others)] == [10, 10, 10]
    for backend in others:
        backend.stop()


def test_limits(passing, inner):
    """Circuit breaking of the service, the gateway's own cap on connections, and the idle timeout."""
    settings = manifest("ConfigMap", "higress-config", namespace="higress-system",
                        data={"higress": "downstream: {idleTimeout: 1}\n"})
    gateway, _ = passing(None, "--max-connections", "4", more=[settings], annotations={
        **PASS, "sluice.io/upstream": "{circuit_breaker: {max_connections: 2}}"})
    with nothing_left(gateway):
        held = [connect(gateway, inner) for _ in range(2)]
        with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):
            connect(gateway, inner)
        line = gateway.log_lines(1)[0]
        assert line["response_flags"] == "UO" and outcome(line) == "ssl_passthrough{upstream_overflow}"
        more = [gateway.connect(tls=True) for _ in range(2)]
        with gateway.connect(tls=True) as client:
            assert client.closed()  # the fifth
        for client in held:
            assert client.closed()
            client.socket.close()
        assert [line["response_flags"] for line in gateway.log_lines(3)[1:]] == ["SI", "SI"]
        for client in more:
            client.socket.close()
    assert ask(gateway, inner).status == 200


def test_proxy_protocol_on_both_sides(start_gateway, start_tls, inner):
    heads = []

    def raw(connection):
        heads.append(connection.read_until(b"\r\n"))
        # TLS begins behind it; the bytes that were read ahead are put back through a pair of sockets.
        a, b = socket.socketpair()
        b.sendall(connection.buffer)
        threading.Thread(target=pipe, args=(connection.socket, b), daemon=True).start()
        back = threading.Thread(target=pipe, args=(b, connection.socket), daemon=True)
        back.start()
        with inner.server_context(HOST).wrap_socket(a, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(simple_response())
        back.join(5)

    def pipe(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
    backend = start_tls(raw=raw)
    backend.context = None
    gateway = start_gateway(documents(service("tls", 443, backend.port), rule("pass", "tls", annotations={
        **PASS, "sluice.io/upstream": "{send_proxy_protocol: 1}", "nginx.ingress.kubernetes.io/whitelist-source-range": "10.1.0.0/16"})),
        "--proxy-protocol")

    def through(address):
        sock = socket.create_connection(("127.0.0.1", gateway.https_port), 10)
        sock.sendall(f"PROXY TCP4 {address} 10.0.0.1 4000 443\r\n".encode())
        with inner.client_context().wrap_socket(sock, server_hostname=HOST) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: pass.test\r\n\r\n")
            return tls.recv(1000)
    assert b"200 OK" in through("10.1.2.3")
    assert heads == [b"PROXY TCP4 10.1.2.3 10.0.0.1 4000 443"]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        through("10.2.2.3")  # the addresses are looked at
    assert "ssl_passthrough{refused}" in [outcome(line) for line in gateway.log_lines(2)] and len(heads) == 1


def test_plain_http_is_routed(start_gateway, start_tls, start_backend, inner):
    """On the other port the rules work as ever."""
    plain, backend = start_backend(), start_tls()
    gateway = start_gateway(documents(
        service("tls", 443, backend.port), service("plain", 80, plain.port),
        rule("pass", "tls", annotations={**PASS, "nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"}),
        rule("more", "plain", port=80, path="/plain", created=2, annotations={})))
    assert gateway.get("/", host=HOST).status == 200 and len(backend.requests) == 1
    assert gateway.get("/plain", host=HOST).status == 200 and len(plain.requests) == 1
    assert ask(gateway, inner, path="/plain").status == 200 and len(backend.requests) == 2  # over TLS nobody sees the path


def messages(gateway):
    return [text for o in json.loads(gateway.admin("/objects")) for text in o["messages"]]


def explain(gateway, request):
    return subprocess.run([str(harness.BINARY), "explain", "--config", str(gateway.directory), "--request", request], capture_output=True,
                          text=True, timeout=20).stdout


def test_wildcards_and_conflicts(start_gateway, start_tls, start_backend, authority, inner):
    one, two, plain = start_tls(names=("*.wild.test", "a.both.test")), start_tls(names=("a.both.test",)), start_backend()
    gateway = start_gateway(documents(
        service("one", 443, one.port), service("two", 443, two.port), service("plain", 80, plain.port),
        tls_secret("own", authority.issue("own.wild.test", "late.test"), namespace="default"),
        rule("wild", "one", host="*.wild.test", created=1),
        rule("own", "plain", port=80, host="own.wild.test", created=2, annotations={}, secret="own"),
        rule("both-1", "one", host="a.both.test", created=3),
        rule("both-2", "two", host="a.both.test", created=4),
        rule("late-1", "plain", port=80, host="late.test", created=5, annotations={}, secret="own"),
        rule("late-2", "two", host="late.test", created=6, path="/x"),
        rule("deep", "two", host="deep.test", path="/x", created=7),
        rule("guarded", "two", host="guarded.test", created=8, annotations={
            **PASS, "nginx.ingress.kubernetes.io/auth-url": "http://127.0.0.1:1/"})))
    assert ask(gateway, inner, host="x.wild.test").status == 200 and len(one.requests) == 1
    assert ask(gateway, authority, host="own.wild.test").status == 200 and len(plain.requests) == 1  # it has a certificate
    assert ask(gateway, inner, host="a.both.test").status == 200 and len(one.requests) == 2
    assert ask(gateway, authority, host="late.test").status == 200 and len(plain.requests) == 2
    assert not two.requests
    said = "\n".join(messages(gateway))
    for text in ("host a.both.test are passed through, as Ingress default/both-1, which is older, has it",
                 "ssl-passthrough has no effect on host late.test: TLS for it ends here, as Ingress default/late-1",
                 "ssl-passthrough has no effect on host deep.test: it needs a rule with path /",
                 "these hold for plain HTTP only: nginx.ingress.kubernetes.io/auth-url"):
        assert text in said, said
    told = explain(gateway, "GET https://x.wild.test/any")
    assert "TLS: *.wild.test is passed through" in told and f"127.0.0.1:{one.port}" in told and "as bytes" in told
    assert "passed through" not in explain(gateway, "GET https://own.wild.test/")


def test_becoming_and_ceasing_live(start_gateway, start_tls, start_backend, authority, inner):
    backend, plain = start_tls(), start_backend()
    both = [service("tls", 443, backend.port), service("plain", 80, plain.port),
            tls_secret("own", authority.issue(HOST), namespace="default")]
    passes = rule("pass", "tls", annotations={**PASS, "nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"})
    gateway = start_gateway({"services.yaml": documents(*both), "rule.yaml": passes})
    passed = connect(gateway, inner)
    for i in range(3):
        gateway.apply("rule.yaml", rule("pass", "plain", port=80, annotations={}, secret="own"))
        ended = connect(gateway, authority)  # the gateway's own certificate
        ended.request("GET", "/plain", host=HOST)
        assert ended.response().status == 200 and len(plain.requests) == i + 1
        gateway.apply("rule.yaml", passes)
        for client, forwarded in ((passed, None), (ended, "127.0.0.1")):  # those that are open stay what they are
            client.request("GET", f"/{i}", host=HOST)
            assert client.response().status == 200 and backend.requests[-1].path == f"/{i}"
            assert backend.requests[-1].header("x-forwarded-for") == forwarded
        assert ask(gateway, inner).status == 200
    # Even without their endpoint and Service.
    gateway.apply("services.yaml", documents(*both[1:]))
    passed.request("GET", "/last", host=HOST)
    assert passed.response().status == 200
    with pytest.raises((ConnectionError, ssl.SSLError, EOFError)):
        ask(gateway, inner)
    passed.socket.close()
    ended.socket.close()


def test_draining(passing, inner):
    gateway, _ = passing(None, "--drain-deadline-ms", "1500")
    going, staying = connect(gateway, inner), connect(gateway, inner)
    gateway.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for client in (going, staying):
        client.request("GET", "/", host=HOST)
        assert client.response().status == 200
    going.socket.close()
    began = time.monotonic()
    assert staying.closed()
    assert gateway.process.wait(10) == 0 and time.monotonic() - began < 3
    assert "ssl_passthrough{drain_deadline}" in [outcome(line) for line in gateway.log_lines(2)]


def test_binary_is_replaced(passing, inner):
    import ctypes
    import re
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    gateway, _ = passing()
    with connect(gateway, inner) as client:
        before = gateway.process
        before.send_signal(signal.SIGUSR2)
        pid = wait_until(lambda: (found := re.findall(r"new binary as process (\d+)", gateway.errors())) and int(found[0]), 5)
        wait_until(lambda: "drain" in gateway.errors() or before.poll() is not None or time.sleep(0.05), 5)
        for _ in range(3):
            client.request("GET", "/", host=HOST)
            assert client.response().status == 200
            time.sleep(0.2)
        assert ask(gateway, inner).status == 200
    assert before.wait(10) == 0
    gateway.process = Adopted(pid)
    wait_until(gateway.ready, 5)
    assert ask(gateway, inner).status == 200


def test_many_at_once_with_changes(passing, inner):
    gateway, backend = passing(workers=2)
    failures = []

    def client():
        try:
            for _ in range(15):
                assert ask(gateway, inner).status == 200
        except Exception as error:
            failures.append(error)
    with nothing_left(gateway):
        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for i in range(20):
            gateway.apply("more.yaml", rule("more", "tls", host=f"more-{i}.test"))
        for thread in threads:
            thread.join(30)
        assert not failures, failures
