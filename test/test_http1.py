"""HTTP/1 through the gateway: framing both ways, keep-alive, pipelining, 1xx, upgrades, early responses."""

import hashlib
import json
import os
import socket
import threading
import time

import pytest

from harness import simple_response, wait_until
from peers import metrics


def test_get(proxy):
    gateway, backend = proxy()
    response = gateway.get("/a?b=c")
    assert (response.status, response.body) == (200, b"ok")
    request = backend.requests[0]
    assert request.raw_head.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: test.com\r\n")
    assert response.header("server") == "istio-envoy"
    assert response.header("x-envoy-upstream-service-time") is not None


def test_keep_alive_reuses_both_connections(proxy):
    gateway, backend = proxy()
    with gateway.connect() as client:
        for i in range(20):
            client.request(path=f"/{i}")
            assert client.response().status == 200
    assert len(backend.connections) == 1
    assert [r.path for r in backend.requests] == [f"/{i}" for i in range(20)]


def test_pipelined_requests_are_answered_in_order(proxy):
    gateway, _ = proxy(lambda r, c: simple_response(r.path.encode()))
    with gateway.connect() as client:
        client.send(b"".join(f"GET /{i} HTTP/1.1\r\nHost: test.com\r\n\r\n".encode() for i in range(50)))
        assert [client.response().body for _ in range(50)] == [f"/{i}".encode() for i in range(50)]


def test_pipelined_requests_before_a_half_close_are_answered(proxy):
    gateway, _ = proxy(lambda r, c: time.sleep(0.02) or simple_response(r.path.encode()))
    with gateway.connect() as client:
        client.send(b"".join(f"GET /{i} HTTP/1.1\r\nHost: test.com\r\n\r\n".encode() for i in range(5)))
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.response().body for _ in range(5)] == [f"/{i}".encode() for i in range(5)]
        assert client.closed()


def test_pipelined_posts(proxy):
    gateway, backend = proxy()
    with gateway.connect() as client:
        client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                    b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
                    b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [client.response().status for _ in range(3)] == [200] * 3
    assert [r.body for r in backend.requests] == [b"abc", b"de", b""]


@pytest.mark.parametrize("size", [0, 1, 1000, 16368, 65536, 1 << 20, 20 << 20])
def test_body_both_ways(proxy, size):
    body = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    gateway, backend = proxy(lambda r, c: simple_response(r.body))
    with gateway.connect(timeout=30) as client:
        threading.Thread(target=client.request, args=("POST", "/"), kwargs={"body": body}, daemon=True).start()
        response = client.response()
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()
    assert backend.requests[0].header("content-length") == str(size)


def test_chunked_with_trailers_both_ways(proxy):
    def handler(request, connection):
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
                b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n")
    gateway, backend = proxy(handler)
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Check: yes\r\n\r\n")
        response = client.response()
    assert response.body == b"hello world" and response.trailers == [("x-sum", "11")]
    assert backend.requests[0].body == b"abcde" and backend.requests[0].trailers == [("x-check", "yes")]


def test_http_10(proxy):
    gateway, _ = proxy(lambda r, c: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.response()
        assert response.body == b"ok" and response.header("transfer-encoding") is None
        assert client.closed()
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n")
        assert client.response_head().header("connection") == "close"  # no length: the end is the connection's


def test_http_10_keep_alive_with_length(proxy):
    gateway, _ = proxy()
    with gateway.connect() as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.response().header("connection") == "keep-alive"


def test_connection_close_is_kept(proxy):
    gateway, backend = proxy()
    with gateway.connect() as client:
        client.request(headers={"Connection": "close"})
        assert client.response().header("connection") == "close"
        assert client.closed()
    assert backend.requests[0].header("connection") is None


def test_head_and_bodiless_statuses(proxy):
    def handler(request, connection):
        if request.method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        return b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n" if request.path == "/304" else b"HTTP/1.1 204 No Content\r\n\r\n"
    gateway, _ = proxy(handler)
    with gateway.connect() as client:
        client.request("HEAD")
        response = client.response(head_only=True)
        assert response.header("content-length") == "1234"
        client.request(path="/204")
        assert client.response().status == 204
        client.request(path="/304")
        assert client.response().header("etag") == '"x"'


def test_response_until_close(proxy):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        connection.socket.close()
    gateway, _ = proxy(raw=raw)
    with gateway.connect() as client:
        client.request()
        assert client.response().body == b"all of it"


def test_expect_100_continue(proxy):
    gateway, backend = proxy(lambda r, c: simple_response(r.body))
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.response_head().status == 100
        client.send(b"hello")
        assert client.response().body == b"hello"
    assert backend.requests[0].header("expect") is None


def test_expect_is_not_continued_when_there_is_no_route(start_gateway):
    gateway = start_gateway("")
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        response = client.response()
        assert response.status == 404 and response.header("connection") == "close"


def test_informational_responses_pass(proxy):
    gateway, _ = proxy(lambda r, c: b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n" + simple_response())
    with gateway.connect() as client:
        client.request()
        informational = []
        assert client.response(informational=informational).status == 200
        assert [(r.status, r.header("link")) for r in informational] == [(103, "</s.css>; rel=preload")]


@pytest.mark.parametrize("status", ["413 Payload Too Large", "401 Unauthorized"])
def test_early_response_reaches_an_uploading_client(proxy, status):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(simple_response(b"no", status, ["Connection: close"]))
        time.sleep(0.2)
        connection.socket.close()
    gateway, _ = proxy(raw=raw)
    with gateway.connect(timeout=20) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        sent = 0
        try:
            while sent < 100_000_000:
                sent += client.socket.send(b"x" * 65536)
        except OSError:
            pass
        response = client.response()
        assert response.status == int(status[:3]) and response.body == b"no"


def test_first_byte_of_a_stream_is_not_delayed(proxy):
    release = threading.Event()

    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                        b"9\r\ndata: 1\n\n\r\n")
        release.wait(10)
        return b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"
    gateway, _ = proxy(handler)
    with gateway.connect() as client:
        client.request()
        assert client.response_head().status == 200
        assert client.read_until(b"\r\n") == b"9"
        assert client.read_exactly(9) == b"data: 1\n\n"
        release.set()
        assert client.read_until(b"0\r\n\r\n").endswith(b"data: 2\n\n\r\n")


def test_websocket_upgrade_is_a_tunnel(proxy):
    def handler(request, connection):
        assert request.header("upgrade") == "websocket" and request.header("connection") == "upgrade"
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: x\r\n\r\nfirst")
        while data := connection.socket.recv(65536):
            connection.send(data.upper())
        connection.socket.shutdown(socket.SHUT_WR)
    gateway, _ = proxy(handler)
    with gateway.connect() as client:
        client.request(headers={"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "k",
                                "Sec-WebSocket-Version": "13"})
        response = client.response()
        assert response.status == 101 and response.header("upgrade") == "websocket"
        assert client.read_exactly(5) == b"first"
        for i in range(100):
            client.send(b"ping%d" % i)
            assert client.read_exactly(len(b"ping%d" % i)) == b"PING%d" % i
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b""
    line = gateway.log_lines()[0]
    assert line["response_code"] == "101" and line["response_flags"] == "-"


def test_declined_upgrade(proxy):
    gateway, _ = proxy(lambda r, c: simple_response(b"plain"))
    with gateway.connect() as client:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert client.response().body == b"plain"
        client.request()
        assert client.response().body == b"plain"


def test_hop_by_hop_fields_are_not_forwarded(proxy):
    gateway, backend = proxy(lambda r, c: simple_response(headers=["Connection: x-private", "X-Private: 1", "Keep-Alive: timeout=5"]))
    with gateway.connect() as client:
        client.request(headers={"Connection": "close, X-Secret, x-other", "X-Secret": "1", "X-Other": "2", "Keep-Alive": "timeout=5",
                                "Proxy-Connection": "keep-alive", "TE": "gzip", "X-Kept": "3"})
        response = client.response()
    request = backend.requests[0]
    for name in ("connection", "x-secret", "x-other", "keep-alive", "proxy-connection", "te"):
        assert request.header(name) is None, name
    assert request.header("x-kept") == "3"
    assert response.header("x-private") is None and response.header("keep-alive") is None


def test_h2c_upgrade_is_not_forwarded(proxy):
    gateway, backend = proxy()
    with gateway.connect() as client:
        client.request(headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"})
        assert client.response().status == 200
    request = backend.requests[0]
    assert all(request.header(name) is None for name in ("upgrade", "connection", "http2-settings"))


def test_slow_client_bounds_memory(proxy):
    """A client that does not read stops the backend, and memory stays flat."""
    sent = [0]

    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        connection.socket.settimeout(3)
        try:
            for _ in range(1000):
                connection.send(b"x" * 1_000_000)
                sent[0] += 1_000_000
        except OSError:
            pass
        return None
    gateway, _ = proxy(handler)
    before = gateway.resident_kib()
    with gateway.connect() as client:
        client.request()
        client.response_head()
        time.sleep(2)
        assert sent[0] < 60_000_000
        assert gateway.resident_kib() - before < 8 * 1024


def test_slow_backend_bounds_memory(proxy):
    hold = threading.Event()

    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        hold.wait(10)
    gateway, _ = proxy(raw=raw)
    before = gateway.resident_kib()
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        client.socket.settimeout(1)
        sent = 0
        try:
            while True:
                sent += client.socket.send(b"x" * 1_000_000)
        except (TimeoutError, socket.timeout):
            pass
        assert sent < 60_000_000
        assert gateway.resident_kib() - before < 8 * 1024
    hold.set()


def test_tiny_chunks_to_a_slow_backend_bound_memory(proxy):
    """Each byte in a chunk of its own: what waits for the backend takes memory in proportion to its bytes."""
    hold = threading.Event()

    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        hold.wait(20)
        count, tail = connection.buffer.count(b"x"), connection.buffer[-5:]
        while tail != b"0\r\n\r\n":
            data = connection.socket.recv(1 << 20)
            count, tail = count + data.count(b"x"), (tail + data)[-5:]
        assert count == 4_000_000
        connection.send(simple_response())
    gateway, _ = proxy(raw=raw)
    body = b"1\r\nx\r\n" * 4_000_000 + b"0\r\n\r\n"
    with gateway.connect(timeout=30) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sender = threading.Thread(target=client.send, args=(body,), daemon=True)
        sender.start()
        time.sleep(1)
        assert sender.is_alive(), "nothing held the client back"
        assert json.loads(gateway.admin("/memory"))["block_bytes_in_use"] < 2 << 20
        hold.set()
        assert client.response().status == 200


@pytest.mark.parametrize("annotations", [None, {"sluice.io/filters": "- name: fault\n  config: {delay: {fixed_ms: 6000}}"}],
                         ids=["kept for a retry", "held by a filter"])
def test_dripping_client_bounds_memory(proxy, annotations):
    """A body whose every byte comes alone."""
    gateway, backend = proxy(lambda r, c: simple_response(r.body), annotations=annotations)
    size = 8000
    with gateway.connect(timeout=30) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size - 1):
            client.send(b"x")
            time.sleep(0.0001)
        assert json.loads(gateway.admin("/memory"))["block_bytes_in_use"] < 1 << 20
        client.send(b"x")
        assert client.response().body == b"x" * size


def test_request_broken_in_its_body_is_logged_once(proxy):
    """With what the client was told, whoever told it."""
    gateway, _ = proxy(None, "--min-body-rate", "100", "--body-rate-window-ms", "500")
    for path, rest, status in (("/chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
                               ("/slow", "Content-Length: 10\r\n\r\nx", 408)):
        with gateway.connect() as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{rest}".encode())
            assert client.response().status == status
            assert client.closed()
    gateway.get("/last")
    assert [(line["path"], line["response_code"], line["response_flags"], line["response_code_details"])
            for line in gateway.log_lines(3)] == [("/chunk", "400", "DPE", "malformed chunked body"),
                                                  ("/slow", "408", "SI", "request_body_timeout"),
                                                  ("/last", "200", "-", "via_upstream")]
    assert metrics(gateway)['sluice_listener_refused_requests_total{listener="http"}'] == 2


def test_unix_socket_listener(start_gateway, start_backend, tmp_path):
    from harness import bridge, documents, ingress
    backend = start_backend()
    path = str(tmp_path / "s.sock")
    start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")), "--unix-socket", path)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := client.recv(4096):
            data += chunk
    assert data.startswith(b"HTTP/1.1 200 OK")
