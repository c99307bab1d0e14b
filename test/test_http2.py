"""HTTP/2 at both ends: framing, flow control, resets and GOAWAY, limits, translation to and from HTTP/1."""

import os
import signal
import socket
import struct
import subprocess
import threading
import time

import h2.errors
import h2.settings
import pytest

from harness import bridge, documents, ingress, simple_response, wait_until
from peers import CANCEL, H2Client, header, memory, metrics, nothing_left, sha

REFUSED_STREAM = h2.errors.ErrorCodes.REFUSED_STREAM
NO_ERROR = h2.errors.ErrorCodes.NO_ERROR
MIB = 1 << 20

both_upstreams = pytest.mark.parametrize("upstream", ["http1", "http2"])


def echo_h2(stream):
    stream.wait_end()
    stream.respond(200, [("x-path", stream.path)], bytes(stream.body))


def echo(upstream):
    return echo_h2 if upstream == "http2" else lambda r, c: simple_response(r.body, headers=[f"x-path: {r.path}"])


# --- messages


@both_upstreams
def test_get(h2_proxy, h2_client, upstream):
    gateway, backend = h2_proxy(h2=upstream == "http2")
    with h2_client(gateway) as client:
        response = client.get("/a?b=c", headers=[("x-one", "1")])
    assert (response.status, bytes(response.body), response.ended) == (200, b"ok", True)
    assert response.header("server") == "istio-envoy" and response.header("date")
    assert response.header("connection") is None
    request = backend.requests[0]
    assert request.path == "/a?b=c" and request.header("x-one") == "1"
    if upstream == "http2":
        assert request.header(":authority") == "test.com" and request.header("host") is None
        assert request.header(":scheme") == client.scheme
    else:
        assert request.header("host") == "test.com"
    assert request.header("x-forwarded-proto") == client.scheme
    assert gateway.log_lines(1)[0]["protocol"] == "HTTP/2"


def test_http1_to_http2(h2_proxy):
    gateway, backend = h2_proxy(echo_h2, h2=True)
    body = os.urandom(3 * MIB)
    with gateway.connect(timeout=30) as client:
        threading.Thread(target=client.request, args=("POST", "/x"), kwargs={"body": body}, daemon=True).start()
        response = client.response()
        assert response.status == 200 and sha(response.body) == sha(body)
        client.send(b"POST /y HTTP/1.1\r\nHost: test.com\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nTE: trailers, gzip\r\n"
                    b"Keep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-End: yes\r\n\r\n")
        assert client.response().body == b"abc"
    request = backend.requests[1]
    assert request.trailers == [("x-end", "yes")]
    for name in ("connection", "keep-alive", "transfer-encoding", "x-hop", "host"):
        assert request.header(name) is None, name
    assert request.header("te") == "trailers"


@both_upstreams
@pytest.mark.parametrize("size", [0, 1, 16384, 65535, 65536, 8 * MIB])
def test_body_both_ways(h2_proxy, h2_client, upstream, size):
    gateway, backend = h2_proxy(echo(upstream), h2=upstream == "http2")
    body = os.urandom(size)
    with h2_client(gateway, timeout=30) as client:
        response = client.response(client.request("POST", "/big", headers=[("content-length", str(size))], body=body), 30)
        assert response.status == 200 and sha(response.body) == sha(body)
        # and without a length
        response = client.response(client.request("PUT", "/big", body=body), 30)
        assert response.status == 200 and sha(response.body) == sha(body)
    assert backend.requests[0].header("content-length") == str(size)


@both_upstreams
def test_trailers_both_ways(h2_proxy, h2_client, upstream):
    def on_h2(stream):
        stream.wait_end()
        stream.respond(200, [("trailer", "x-sum")], b"hello", trailers=[("x-sum", "5")])

    def on_h1(request, connection):
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n")
    gateway, backend = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with h2_client(gateway) as client:
        response = client.response(client.request("POST", body=b"abc", trailers=[("x-check", "yes")]))
    assert bytes(response.body) == b"hello" and response.trailers == [("x-sum", "5")]
    assert bytes(backend.requests[0].body) == b"abc" and backend.requests[0].trailers == [("x-check", "yes")]


@both_upstreams
def test_trailers_without_body(h2_proxy, h2_client, upstream):
    def on_h2(stream):
        stream.wait_end()
        stream.respond(200, trailers=[("x-sum", "0")])
    gateway, backend = h2_proxy(on_h2 if upstream == "http2" else lambda r, c: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 0\r\n\r\n"), h2=upstream == "http2")
    with h2_client(gateway) as client:
        response = client.response(client.request("POST", trailers=[("x-check", "yes")]))
    assert response.status == 200 and response.trailers == [("x-sum", "0")] and not response.body
    assert backend.requests[0].trailers == [("x-check", "yes")]


@both_upstreams
def test_informational_responses(h2_proxy, h2_client, upstream):
    def on_h2(stream):
        with stream.changed:
            stream.connection.h2.send_headers(stream.id, [(":status", "103"), ("link", "</s.css>")])
            stream.connection.flush()
        stream.wait_end()
        stream.respond(body=b"ok")

    def on_h1(request, connection):
        return b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" + simple_response()
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with h2_client(gateway) as client:
        response = client.get()
        assert [(header(h, ":status"), header(h, "link")) for h in response.informational] == [("103", "</s.css>")]
        assert response.status == 200
    with gateway.connect() as client:
        client.request()
        informational = []
        assert client.response(informational=informational).status == 200
        assert [(r.status, r.header("link")) for r in informational] == [(103, "</s.css>")]


@both_upstreams
def test_informational_responses_are_bounded(h2_proxy, upstream):
    """Each stays in memory until the exchange is over."""
    def on_h2(stream):
        for _ in range(200):
            with stream.changed:
                stream.connection.h2.send_headers(stream.id, [(":status", "103"), ("link", "</s.css>")])
                stream.connection.flush()
        stream.respond(body=b"ok")

    def on_h1(request, connection):
        return b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n" * 200 + simple_response()
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with gateway.connect() as client:
        client.request()
        assert client.response().status == 502
    assert gateway.log_lines(1)[0]["response_flags"] == "UPE"


@both_upstreams
def test_expect_100_continue(h2_proxy, h2_client, upstream):
    gateway, backend = h2_proxy(echo(upstream), h2=upstream == "http2")
    with h2_client(gateway) as client:
        stream = client.request("POST", headers=[("expect", "100-continue"), ("content-length", "5")], end=False)
        client.until(lambda: client.streams[stream].informational, what="100")
        assert header(client.streams[stream].informational[0], ":status") == "100"
        client.send(stream, b"hello", end=True)
        assert bytes(client.response(stream).body) == b"hello"


@both_upstreams
def test_head_and_bodiless_statuses(h2_proxy, h2_client, upstream):
    def on_h2(stream):
        if stream.method == "HEAD":
            return stream.respond(200, [("content-length", "1234")])
        stream.respond(304, [("etag", '"x"')]) if stream.path == "/304" else stream.respond(204)

    def on_h1(request, connection):
        if request.method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        return b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n" if request.path == "/304" else b"HTTP/1.1 204 No Content\r\n\r\n"
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with h2_client(gateway) as client:
        response = client.get(method="HEAD")
        assert response.header("content-length") == "1234" and response.ended and not response.body
        assert client.get("/204").status == 204
        response = client.get("/304")
        assert (response.status, response.header("etag")) == (304, '"x"')
    with gateway.connect() as client:
        client.request("HEAD")
        assert client.response(head_only=True).header("content-length") == "1234"
        client.request(path="/204")
        assert client.response().status == 204


@both_upstreams
def test_response_is_streamed(h2_proxy, h2_client, upstream):
    """Each event arrives before the next is sent."""
    go = threading.Semaphore(0)

    def on_h2(stream):
        stream.respond(200, [("content-type", "text/event-stream")], end=False)
        for i in range(5):
            assert go.acquire(timeout=10)
            stream.send(f"data: {i}\n\n".encode())
        stream.send(b"", end=True)

    def on_h1(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            assert go.acquire(timeout=10)
            connection.send(f"9\r\ndata: {i}\n\n\r\n".encode())
        return b"0\r\n\r\n"
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with h2_client(gateway) as client:
        stream = client.request()
        message = client.head(stream)
        for i in range(5):
            go.release()
            client.until(lambda: message.body.endswith(f"data: {i}\n\n".encode()), what=f"event {i}")
        assert client.response(stream).ended


def test_cookie_crumbs_are_joined_towards_http1(h2_proxy, h2_client):
    gateway, backend = h2_proxy()
    with h2_client(gateway) as client:
        assert client.get(headers=[("cookie", "a=1"), ("x-between", "y"), ("cookie", "b=2"), ("cookie", "c=3")]).status == 200
    assert backend.requests[0].all("cookie") == ["a=1; b=2; c=3"]


def test_authority_and_host(h2_proxy):
    gateway, backend = h2_proxy()
    with H2Client(gateway.http_port) as client:
        pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
        assert client.get(pseudo=pseudo, headers=[("host", "test.com")]).status == 200  # Host alone will do
        assert client.get(headers=[("host", "test.com")]).status == 200
        assert client.get(host="test.com:80").status == 200
        for headers, host in (([("host", "other.com")], "test.com"), ([], "user@test.com")):
            message = client.get(headers=headers, host=host)
            assert message.status == 400 or message.reset == h2.errors.ErrorCodes.PROTOCOL_ERROR, message
        assert client.get().status == 200  # only the stream was refused
    assert [r.header("host") for r in backend.requests] == ["test.com", "test.com", "test.com:80", "test.com"]
    assert all(len(r.all("host")) == 1 for r in backend.requests)


@pytest.mark.parametrize("field", [("connection", "close"), ("connection", "x"), ("keep-alive", "5"), ("proxy-connection", "x"),
                                   ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip"), ("X-Upper", "1"),
                                   ("bad name", "1"), ("x-bad", "a\r\nb"), ("x-bad", "a\0b"), (":late", "1"),
                                   ("content-length", "x")])
def test_malformed_fields_are_refused(h2_proxy, field):
    gateway, backend = h2_proxy()
    with H2Client(gateway.http_port) as client:
        message = client.get(headers=[field])
        assert message.reset == h2.errors.ErrorCodes.PROTOCOL_ERROR or message.status == 400, message
        assert client.get().status == 200
    assert len(backend.requests) == 1


def test_content_length_must_agree(h2_proxy):
    gateway, backend = h2_proxy(lambda r, c: simple_response(r.body))
    with H2Client(gateway.http_port) as client:
        stream = client.request("POST", headers=[("content-length", "10")], body=b"abc")
        assert client.response(stream).reset == h2.errors.ErrorCodes.PROTOCOL_ERROR
        assert client.get().status == 200
    assert [r.method for r in backend.requests] == ["GET"]


def test_te_trailers_reach_the_upstream(h2_proxy):
    gateway, backend = h2_proxy(h2=True)
    with H2Client(gateway.http_port) as client:
        assert client.get(headers=[("te", "trailers")]).status == 200
        assert client.get().status == 200
    assert [r.header("te") for r in backend.requests] == ["trailers", None]


def test_header_limits(h2_proxy, h2_client):
    gateway, backend = h2_proxy()
    with h2_client(gateway) as client:
        assert client.settings.get(h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE, 61440) == 61440
        assert client.get(headers=[("x-big", "v" * 50000)]).status == 200
        assert client.get(headers=[("x-big", "v" * 70000)]).status == 431
        assert client.get(headers=[(f"x-{i}", "v") for i in range(99)]).status == 200
        assert client.get(headers=[(f"x-{i}", "v") for i in range(150)]).status == 431
        assert client.get().status == 200  # the connection lives
    assert len(backend.requests) == 3
    details = [line["response_code"] for line in gateway.log_lines(5)]
    assert details.count("431") == 2


def test_connect_without_a_protocol_is_not_served(h2_proxy):
    gateway, _ = h2_proxy()
    with H2Client(gateway.http_port) as client:
        message = client.get(pseudo=[(":method", "CONNECT"), (":authority", "test.com:443")])
        assert message.status == 405


def test_upgrade_from_http1_is_ignored(h2_proxy):
    gateway, backend = h2_proxy()
    response = gateway.get(headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"})
    assert response.status == 200
    for name in ("upgrade", "http2-settings", "connection"):
        assert backend.requests[0].header(name) is None


# --- many streams, flow control


@both_upstreams
def test_many_concurrent_streams(h2_proxy, h2_client, upstream):
    gateway, backend = h2_proxy(echo(upstream), h2=upstream == "http2")
    with nothing_left(gateway):
        with h2_client(gateway, timeout=30) as client:
            for round_ in range(3):
                bodies = {}
                for i in range(100):
                    body = f"{round_}-{i}-".encode() * (1 + i * 20)
                    bodies[client.request("POST", f"/{i}", body=body)] = body
                for stream, body in bodies.items():
                    response = client.response(stream, 30)
                    assert response.status == 200 and sha(response.body) == sha(body)
    if upstream == "http2":
        # 100 streams at a time is what one connection takes.
        assert 1 <= len(backend.connections) <= 4


def test_the_stream_limit_is_kept(h2_proxy):
    """100 streams at a time are served; one too many is refused on its stream, the others go on."""
    release = threading.Event()
    gateway, backend = h2_proxy(lambda r, c: release.wait(20) and simple_response())
    with H2Client(gateway.http_port) as client:
        client.until(lambda: h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS in client.settings)
        assert client.settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] == 100
        streams = [client.request() for _ in range(100)]
        wait_until(lambda: len(backend.requests) == 100, what="100 requests at a time")
        release.set()
        assert all(client.response(s).status == 200 for s in streams)
        release.clear()
        streams = [client.request() for _ in range(100)]
        client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.h2.remote_settings.acknowledge()
        extra = client.request()
        assert client.response(extra).reset == REFUSED_STREAM
        release.set()
        assert all(client.response(s).status == 200 for s in streams)
        assert client.get().status == 200 and client.goaway is None


@both_upstreams
def test_slow_client_bounds_memory(h2_proxy, h2_client, upstream):
    """The client takes nothing: what was read of an endless response stays within the windows and buffers."""
    sent = [0]
    stop = threading.Event()

    def on_h2(stream):
        stream.respond(end=False)
        while not stop.is_set():
            stream.send(b"x" * 65536)
            sent[0] += 65536

    def on_h1(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.is_set():
            connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent[0] += 65536
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with nothing_left(gateway):
        with h2_client(gateway, credit=False) as client:
            streams = [client.request() for _ in range(4)]
            for stream in streams:
                client.head(stream)

            def stalled():
                before = sent[0]
                client.pump(0.3)
                return before == sent[0] and before > 0
            wait_until(stalled, 20, "back-pressure")
            # 64 KiB window and 64 KiB queue a stream; socket buffers of an HTTP/1 upstream may be several MiB each.
            assert memory(gateway)["block_bytes_in_use"] < 4 * 2 * MIB
            assert sum(len(m.body) for m in client.streams.values()) <= 65535
            # and goes on when the client reads
            count = sent[0]

            def flows():
                for stream in streams:
                    client.give_credit(stream)
                client.pump(0.01)
                return sent[0] > count + 4 * MIB
            wait_until(flows, 20, "the flow to go on")
        stop.set()


@both_upstreams
def test_slow_upstream_stops_the_client(h2_proxy, h2_client, upstream):
    """An upstream that reads nothing: the client runs out of window while memory stays bounded; then everything arrives."""
    read = threading.Event()
    size = 24 * MIB

    def on_h2(stream):
        stream.credit = False
        assert read.wait(30)
        with stream.changed:
            stream.credit = True
            held = len(stream.body)
            if held:
                stream.connection.h2.acknowledge_received_data(held, stream.id)
                stream.connection.flush()
        stream.wait_end(30)
        stream.respond(body=sha(bytes(stream.body)).encode())

    def raw(connection):
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.read_until(b"\r\n\r\n")
        assert read.wait(30)
        body = connection.read_exactly(size)
        connection.send(simple_response(sha(body).encode()))
    if upstream == "http2":
        gateway, _ = h2_proxy(on_h2, h2=True, credit=False)
    else:
        gateway, _ = h2_proxy(raw=raw)
    body = os.urandom(MIB) * (size // MIB)
    with nothing_left(gateway):
        with h2_client(gateway, timeout=30) as client:
            stream = client.request("POST", headers=[("content-length", str(size))], end=False)
            assert not client.send(stream, body, end=True, patience=1), "the client was never stopped"
            left = client.left
            assert left > 8 * MIB
            assert memory(gateway)["block_bytes_in_use"] < 4 * MIB
            read.set()
            client.send(stream, body[size - left:], end=True)
            response = client.response(stream, 30)
            assert response.status == 200 and bytes(response.body).decode() == sha(body)


def test_bursts_over_tls_are_read_to_the_end(h2_proxy, authority):
    """A client that sends faster than is decrypted, then waits: nothing of it is left in the socket."""
    gateway, _ = h2_proxy(lambda r, c: simple_response(r.body), workers=2)
    with nothing_left(gateway):
        for _ in range(60):
            with H2Client(gateway.https_port, context=authority.client_context(["h2"])) as client:
                streams = [client.request("POST", f"/{i}", body=b"y" * 20000) for i in range(30)]
                for stream in streams:
                    assert len(client.response(stream).body) == 20000


def test_a_stalled_stream_does_not_stop_others(h2_proxy, h2_client):
    release = threading.Event()

    def handler(stream):
        if stream.path != "/stalled":
            stream.wait_end()
            return stream.respond(body=bytes(stream.body))
        stream.credit = False
        release.wait(20)
        stream.respond(body=b"late")
    gateway, _ = h2_proxy(handler, h2=True)
    with h2_client(gateway) as client:
        stalled = client.request("POST", "/stalled", end=False)
        client.send(stalled, os.urandom(MIB), patience=0.5)
        for i in range(20):
            body = os.urandom(100000)
            assert sha(client.response(client.request("POST", "/other", body=body)).body) == sha(body)
        release.set()
        assert bytes(client.response(stalled).body) == b"late"


# --- resets and ends


@both_upstreams
def test_client_reset_cancels_the_upstream_request(h2_proxy, h2_client, upstream):
    seen, gone = threading.Event(), threading.Event()

    def on_h2(stream):
        if stream.path != "/cancelled":
            return stream.respond(body=b"ok")
        seen.set()
        stream.wait(lambda: stream.reset is not None)
        assert stream.reset == CANCEL
        gone.set()

    def on_h1(request, connection):
        if request.path != "/cancelled":
            return simple_response()
        seen.set()
        try:
            while connection.socket.recv(1):
                pass
        except OSError:
            pass
        gone.set()
        raise EOFError
    gateway, _ = h2_proxy(on_h2 if upstream == "http2" else on_h1, h2=upstream == "http2")
    with nothing_left(gateway):
        with h2_client(gateway) as client:
            stream = client.request(path="/cancelled")
            assert seen.wait(5)
            client.reset(stream)
            assert gone.wait(5)
            assert client.get("/next").status == 200
    line = gateway.log_lines(2)[0]
    assert (line["path"], line["response_flags"], line["response_code"]) == ("/cancelled", "DC", "0")


@both_upstreams
def test_client_gone_in_the_middle_of_an_upload(h2_proxy, h2_client, upstream):
    seen, gone = threading.Event(), threading.Event()

    def on_h2(stream):
        seen.set()
        stream.wait(lambda: stream.reset is not None)
        gone.set()

    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        seen.set()
        try:
            connection.read_to_end()
        except OSError:
            pass
        gone.set()
    gateway, backend = h2_proxy(on_h2, h2=True) if upstream == "http2" else h2_proxy(raw=raw)
    with nothing_left(gateway):
        with h2_client(gateway) as client:
            stream = client.request("POST", end=False)
            client.send(stream, b"part")
            assert seen.wait(5)
        assert gone.wait(5)
    if upstream == "http1":
        assert not backend.received or b"0\r\n\r\n" not in backend.received[0]


def early_answer(stream):
    stream.respond(413, [("x-limit", "1")], b"too large")
    stream.wait(lambda: stream.over)


@both_upstreams
@pytest.mark.parametrize("status", [413, 401])
def test_early_response_to_a_large_upload(h2_proxy, h2_client, upstream, status):
    """The response reaches a client that is still sending; then the upload is refused with NO_ERROR."""
    def on_h2(stream):
        stream.respond(status, [], b"no")
        stream.wait(lambda: stream.over)

    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(simple_response(b"no", f"{status} No", ["Connection: close"]))
        connection.socket.shutdown(socket.SHUT_WR)
        connection.read_to_end()
    gateway, _ = h2_proxy(on_h2, h2=True) if upstream == "http2" else h2_proxy(raw=raw)
    with nothing_left(gateway):
        with h2_client(gateway, timeout=5) as client:
            stream = client.request("POST", headers=[("content-length", str(512 * MIB))], end=False)
            chunk = b"x" * MIB
            for _ in range(512):
                if not client.send(stream, chunk, patience=3):
                    break
            message = client.response(stream)
            assert message.status == status and bytes(message.body) == b"no" and message.ended
            client.until(lambda: message.reset is not None, what="RST_STREAM")
            assert message.reset == NO_ERROR and message.reset_after_end
            assert client.get(method="HEAD").status == status  # the connection goes on


def test_gateway_answers_an_upload_early(h2_proxy, h2_client):
    gateway, _ = h2_proxy()
    with nothing_left(gateway):
        with h2_client(gateway, timeout=5) as client:
            stream = client.request("POST", host="unknown.com", end=False)
            for _ in range(64):
                if not client.send(stream, b"x" * MIB, patience=3):
                    break
            message = client.response(stream)
            assert message.status == 404 and message.ended
            client.until(lambda: message.reset is not None, what="RST_STREAM")
            assert message.reset == NO_ERROR


def test_drain_finishes_streams(h2_proxy, h2_client):
    """SIGTERM: GOAWAY; the streams under way end, also those that race the first GOAWAY."""
    release = threading.Event()

    def handler(stream):
        stream.wait_end()
        release.wait(10)
        stream.respond(body=b"x" * 200000)
    gateway, _ = h2_proxy(handler, h2=True)
    with h2_client(gateway) as client:
        streams = [client.request(path=f"/{i}") for i in range(10)]
        wait_until(lambda: memory(gateway)["exchanges"] == 10)
        gateway.process.send_signal(signal.SIGTERM)
        client.until(lambda: client.goaway, what="GOAWAY")
        assert client.goaways[0] == (NO_ERROR, 2**31 - 1)
        release.set()
        for stream in streams:
            message = client.response(stream)
            assert message.status == 200 and len(message.body) == 200000 and message.ended
        assert client.ended()
        assert client.goaway == (NO_ERROR, streams[-1])
    gateway.process.wait(10)
    assert gateway.process.returncode == 0


# --- slow clients


def test_slow_body_gets_408(h2_proxy, h2_client):
    gateway, backend = h2_proxy(None, "--min-body-rate", "100", "--body-rate-window-ms", "1000")
    with nothing_left(gateway), h2_client(gateway) as client:
        slow = client.request("POST", headers=[("content-length", "100000")], end=False)
        fair = client.request("POST", end=False)
        started = time.monotonic()
        while not client.streams[slow].over and time.monotonic() - started < 5:
            client.send(slow, b"x")
            client.send(fair, b"x" * 40)
            client.pump(0.1)
        assert client.streams[slow].status == 408 and 0.9 < time.monotonic() - started < 2
        client.send(fair, b"x", end=True)
        assert client.response(fair).status == 200
    assert [(line["response_code"], line["response_flags"], line["response_code_details"]) for line in gateway.log_lines(2)] == [
        ("408", "SI", "request_body_timeout"), ("200", "-", "via_upstream")]


@pytest.mark.parametrize("drip", [0, 1])
def test_slow_reader_is_reset(h2_proxy, h2_client, drip):
    """A window of 0, or one that grows by a byte now and then."""
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"x" * 100_000), "--write-timeout-ms", "1000")
    with nothing_left(gateway), h2_client(gateway, window=0, credit=not drip) as client:
        slow = client.request()
        started = time.monotonic()
        while not client.streams[slow].over and time.monotonic() - started < 6:
            client.pump(0.1)
            if drip and not client.streams[slow].over:
                time.sleep(0.1)
                client.h2.increment_flow_control_window(drip, slow)
                client.flush()
        assert client.streams[slow].reset == CANCEL and 0.9 < time.monotonic() - started < 3
        assert client.goaway is None
    line = gateway.log_lines(1)[0]
    assert (line["response_flags"], line["response_code_details"]) == ("SI", "response_write_timeout")


def test_socket_that_nobody_reads(h2_proxy):
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"x" * 30_000_000), "--write-timeout-ms", "1000")
    with nothing_left(gateway):
        client = H2Client(gateway.http_port, window=(1 << 31) - 1)
        client.h2.increment_flow_control_window(1 << 30)
        client.request()
        wait_until(lambda: memory(gateway)["exchanges"] == 1)
        wait_until(lambda: memory(gateway)["connections"] == 0, 8, "the end of the connection")
        client.socket.close()
    assert gateway.log_lines(1)[0]["response_flags"] == "SI"


def test_quiet_streams_are_not_slow(h2_proxy, h2_client):
    """Server-sent events with long pauses, and a call of which both sides say little, beside strict limits."""
    def handler(stream):
        if stream.path == "/events":
            stream.respond(headers=[("content-type", "text/event-stream")], end=False)
            for i in range(4):
                time.sleep(0.7)
                stream.send(b"data: %d\n\n" % i, end=i == 3)
            return
        time.sleep(1.5)  # a server that has nothing to say yet
        stream.respond(headers=[("content-type", "application/grpc")], body=b"\0\0\0\0\1a", end=False)
        stream.wait_end()
        stream.send_trailers([("grpc-status", "0")])
    gateway, backend = h2_proxy(handler, "--write-timeout-ms", "300", "--min-body-rate", "1000", "--body-rate-window-ms", "300",
                                h2=True)
    with h2_client(gateway) as client:
        events = client.request(path="/events")
        call = client.request("POST", "/test.S/Chat", headers=[("content-type", "application/grpc"), ("te", "trailers")],
                              body=b"\0\0\0\0\1a", end=False)
        response = client.response(events)
        assert response.ended and response.body.count(b"data:") == 4
        client.send(call, b"\0\0\0\0\1b", end=True)
        assert client.response(call).trailer("grpc-status") == "0"


# --- HTTP/2 upstreams


def test_upstream_goaway_loses_nothing(h2_proxy):
    """Each connection of the upstream says GOAWAY every few streams, having served some and ignored others."""
    def handler(stream):
        if stream.id == 19:
            stream.connection.go_away(19)
        if stream.id > 19:
            return
        stream.wait_end()
        stream.respond(body=stream.path.encode())
    gateway, backend = h2_proxy(handler, h2=True)
    with nothing_left(gateway):
        with H2Client(gateway.http_port) as client:
            for _ in range(5):
                # POST: must not be sent twice unless surely unprocessed.
                streams = {client.request("POST", f"/{i}", body=b"abc"): f"/{i}".encode() for i in range(30)}
                for stream, body in streams.items():
                    response = client.response(stream)
                    assert (response.status, bytes(response.body)) == (200, body)
    assert len(backend.connections) >= 10


def test_refused_streams_are_retried(h2_proxy):
    seen = {}

    def handler(stream):
        stream.wait_end()
        n = seen[stream.path] = seen.get(stream.path, 0) + 1
        if n == 1:
            return stream.abort(REFUSED_STREAM)
        stream.respond(body=bytes(stream.body))
    gateway, _ = h2_proxy(handler, h2=True)
    with H2Client(gateway.http_port) as client:
        streams = {client.request("POST", f"/{i}", body=b"b%d" % i): b"b%d" % i for i in range(20)}
        for stream, body in streams.items():
            response = client.response(stream)
            assert (response.status, bytes(response.body)) == (200, body)
    assert set(seen.values()) == {2}


def test_refused_streams_without_end(h2_proxy):
    gateway, backend = h2_proxy(lambda stream: stream.abort(REFUSED_STREAM), h2=True)
    response = gateway.get("/")
    assert response.status == 503 and response.body.endswith(b"reset reason: remote refused stream reset")
    assert "UR" in gateway.log_lines(1)[0]["response_flags"].split(",")
    assert len(backend.requests) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_upstream_reset_before_the_response(h2_proxy, method):
    """Not among the default conditions for a retry: the server has said that it has looked at the request."""
    gateway, backend = h2_proxy(lambda stream: stream.abort(), h2=True)
    response = gateway.get("/", method=method, body=b"" if method == "POST" else None)
    assert response.status == 503
    assert response.body == b"upstream connect error or disconnect/reset before headers. reset reason: remote reset"
    assert gateway.log_lines(1)[0]["response_flags"] == "UR"
    assert len(backend.requests) == 1


def test_upstream_reset_in_the_body(h2_proxy, h2_client):
    sent = threading.Event()

    def handler(stream):
        stream.respond(200, body=b"part", end=False)
        assert sent.wait(10)
        stream.abort()
    gateway, _ = h2_proxy(handler, h2=True)
    with nothing_left(gateway):
        with h2_client(gateway) as client:
            stream = client.request()
            client.until(lambda: client.streams[stream].body == b"part")
            sent.set()
            message = client.response(stream)
            assert message.reset is not None and not message.ended
        sent.clear()
        with gateway.connect() as client:
            client.request()
            client.response_head()
            client.read_until(b"part")
            sent.set()
            assert client.closed() and b"0\r\n\r\n" not in client.buffer
    assert gateway.log_lines(2)[0]["response_flags"] == "UR"


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"])
def test_http1_upstream_killed_in_the_body(h2_proxy, h2_client, framing, end):
    """The stream is reset, never ended; its neighbours go on."""
    kill = threading.Event()

    def handler(request, connection):
        if request.path != "/killed":
            return simple_response()
        connection.send(b"HTTP/1.1 200 OK\r\n" + framing.encode())
        assert kill.wait(10)
        if end == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise EOFError
    gateway, _ = h2_proxy(handler)
    with nothing_left(gateway):
        with h2_client(gateway) as client:
            stream = client.request(path="/killed")
            client.until(lambda: client.streams[stream].body == b"part")
            kill.set()
            message = client.response(stream)
            assert message.reset is not None and not message.ended
            assert client.get().status == 200
    assert gateway.log_lines(2)[0]["response_flags"] == "UC"


@pytest.mark.parametrize("answer", [[(":status", "abc")], [("x-no-status", "1")], [(":status", "200"), ("Upper", "1")],
                                    [(":status", "200"), ("connection", "close")], [(":status", "101")]])
def test_malformed_upstream_response(h2_proxy, answer):
    def handler(stream):
        with stream.changed:
            stream.connection.h2.send_headers(stream.id, answer, end_stream=answer[0] != (":status", "101"))
            stream.connection.flush()
    gateway, _ = h2_proxy(handler, h2=True)
    response = gateway.get("/")
    assert response.status == 502 and response.body.endswith(b"reset reason: protocol error")
    assert "UPE" in gateway.log_lines(1)[0]["response_flags"]


def test_upstream_connection_lost(h2_proxy):
    """The connection breaks with requests under way. As with HTTP/1, GETs that found it open are repeated; the request it
    was made for and a POST are not."""
    first = threading.Event()

    def handler(stream):
        stream.wait_end()
        if not first.is_set():
            wait_until(lambda: len(stream.connection.streams) == 4)
            # Before the others may answer: what they send is lost.
            stream.connection.socket.shutdown(socket.SHUT_RDWR)
            first.set()
        elif stream.connection.gone:
            return
        else:
            stream.respond(body=b"ok")
    gateway, _ = h2_proxy(handler, h2=True)
    with H2Client(gateway.http_port) as client:
        gets = [client.request() for _ in range(3)]
        post = client.request("POST", body=b"x")
        assert [client.response(s).status for s in gets] == [503, 200, 200]
        assert client.response(post).status == 503


def test_upstream_that_speaks_no_http2(start_gateway, start_backend, certificate):
    backend = start_backend(raw=lambda c: c.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
    gateway = start_gateway(documents(bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "http2"}),
                                      ingress("all", "be.static:80")))
    response = gateway.get("/")
    assert response.status in (502, 503)
    with nothing_left(gateway):
        for _ in range(5):
            assert gateway.get("/").status in (502, 503)


def test_upstream_stream_limit_opens_more_connections(h2_proxy):
    """The upstream allows 10 streams a connection: more connections are made, no request waits for another."""
    lock, level = threading.Lock(), {"now": 0, "most": 0}
    all_there = threading.Event()

    def handler(stream):
        with lock:
            level["now"] += 1
            if level["now"] == 40:
                all_there.set()
        stream.wait_end()
        all_there.wait(10)
        stream.respond(body=b"ok")
    gateway, backend = h2_proxy(handler, h2=True, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 10})
    with H2Client(gateway.http_port) as client:
        streams = [client.request() for _ in range(40)]
        assert [(client.response(s).status, bytes(client.response(s).body)) for s in streams] == [(200, b"ok")] * 40
    assert all_there.is_set(), "40 requests were never under way together"
    assert 4 <= len(backend.connections) <= 8, len(backend.connections)
    assert max(len(c.streams) for c in backend.connections) <= 20


def test_upstream_over_tls_by_alpn(start_gateway, start_h2_backend, start_backend, authority):
    """grpcs: TLS with ALPN h2. An upstream that then chooses http/1.1 gets HTTP/1.1."""
    two = start_h2_backend(context=authority.server_context("two", alpn=["h2"]))
    one = start_backend()
    one.context = authority.server_context("one", alpn=["http/1.1"])
    gateway = start_gateway(documents(
        bridge(two={"type": "static", "domain": two.address, "port": 80, "protocol": "grpcs"},
               one={"type": "static", "domain": one.address, "port": 80, "protocol": "https"}),
        ingress("two", "two.static:80", path="/two"), ingress("one", "one.static:80", path="/one")))
    assert gateway.get("/two").status == 200 and two.requests[0].header(":authority") == "test.com"
    assert gateway.get("/one").status == 200 and one.requests[0].path == "/one"


# --- other people's clients


def test_curl(h2_proxy, authority, tmp_path):
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "body").write_bytes(os.urandom(5 * MIB))
    gateway, _ = h2_proxy(echo_h2, h2=True)
    resolve = ["--resolve", f"test.com:{gateway.https_port}:127.0.0.1", "--cacert", str(tmp_path / "ca.pem")]
    for url, options in ((f"https://test.com:{gateway.https_port}/x", [*resolve, "--http2"]),
                         (f"http://127.0.0.1:{gateway.http_port}/x", ["-H", "Host: test.com", "--http2-prior-knowledge"]),
                         (f"http://127.0.0.1:{gateway.http_port}/x", ["-H", "Host: test.com", "--http2"])):
        run = subprocess.run(["curl", "-sS", *options, "--data-binary", f"@{tmp_path}/body", "-H", "Expect:", "-w",
                              "%{http_code} %{http_version}", "-o", str(tmp_path / "out"), url], capture_output=True, timeout=30)
        expected = b"200 1.1" if options[-1] == "--http2" and url.startswith("http:") else b"200 2"
        assert run.stdout == expected, run
        assert (tmp_path / "out").read_bytes() == (tmp_path / "body").read_bytes()


def test_nghttp_and_h2load(h2_proxy, tmp_path):
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"x" * 10000))
    authority = ["-H", ":authority: test.com"]
    run = subprocess.run(["nghttp", "-nv", *authority, f"http://127.0.0.1:{gateway.http_port}/"], capture_output=True,
                         text=True, timeout=30)
    assert ":status: 200" in run.stdout, run
    with nothing_left(gateway):
        for scheme, port in (("http", gateway.http_port), ("https", gateway.https_port)):
            run = subprocess.run(["h2load", "-n", "3000", "-c", "10", "-m", "50", f"--connect-to=127.0.0.1:{port}",
                                  f"{scheme}://test.com/"], capture_output=True, text=True, timeout=60)
            assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in run.stdout, run.stdout + run.stderr
    assert metrics(gateway)['sluice_listener_http2_requests_total{listener="http"}'] == 3001


def test_unix_socket(h2_proxy, tmp_path):
    path = str(tmp_path / "s.sock")
    gateway, backend = h2_proxy(None, "--unix-socket", path)
    with H2Client(path, family=socket.AF_UNIX) as client:
        assert client.get().status == 200
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: test.com\r\nConnection: close\r\n\r\n")
        data = b""
        while more := client.recv(65536):
            data += more
        assert data.startswith(b"HTTP/1.1 200")
