"""WebSocket through the gateway: real client and server, RFC 8441 over HTTP/2, TLS to the upstream, back-pressure, and the
case categories of the Autobahn suite as raw frames, whose outcome must be the same with and without the gateway."""

import base64
import hashlib
import os
import socket
import struct
import threading
import time
import zlib

import h2.errors
import h2.settings
import pytest
import websockets.exceptions
import websockets.server
import websockets.sync.client
import websockets.sync.server
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from harness import Backend, Connection, bridge, documents, ingress, simple_response, wait_until
from peers import H2Client, memory, metrics, nothing_left, sha, tls_secret

MIB = 1 << 20
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class EchoServer:
    """websockets' server: echoes messages; a text `close N reason` closes."""

    def __init__(self, context=None, compression="deflate"):
        self.compression = []
        self.paths = []
        self.pings = []
        self.closed = []
        self.server = websockets.sync.server.serve(
            self.handle, "127.0.0.1", 0, ssl=context, max_size=None, compression=compression,
            subprotocols=["chat", "echo"], select_subprotocol=lambda _, offered: offered[0] if offered else None, ping_interval=None, logger=quiet())
        self.port = self.server.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def handle(self, connection):
        self.paths.append(connection.request.path)
        self.compression.append(connection.response.headers.get("Sec-WebSocket-Extensions"))
        try:
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    code, reason = message[6:].split(" ", 1)
                    connection.close(int(code), reason)
                    break
                if message == "ping me":
                    connection.ping(b"from the server").wait(5)
                    connection.send("pong seen")
                    continue
                connection.send(message)
        finally:
            self.closed.append((connection.close_code, connection.close_reason))

    def stop(self):
        self.server.shutdown()


class StrictEchoServer(Backend):
    """An echo server whose answer is a function of the bytes it gets, however they arrive: frames are handled one by one
    (websockets' protocol machine checks them), messages are echoed as soon as they are complete."""

    def __init__(self):
        super().__init__(raw=self.echo)

    def echo(self, connection):
        machine = websockets.server.ServerProtocol(
            extensions=[ServerPerMessageDeflateFactory(server_no_context_takeover=True)], max_size=None, logger=quiet())
        machine.receive_data(connection.read_until(b"\r\n\r\n") + b"\r\n\r\n")
        machine.send_response(machine.accept(machine.events_received()[0]))
        message, kind = None, None
        while self.flush(machine, connection):
            try:
                head = connection.read_exactly(2)
                extra = {126: 2, 127: 8}.get(head[1] & 127, 0)
                head += connection.read_exactly(extra + (4 if head[1] & 128 else 0))
                length = int.from_bytes(head[2:2 + extra], "big") if extra else head[1] & 127
                machine.receive_data(head + connection.read_exactly(length))
            except EOFError:
                machine.receive_eof()
            for event in machine.events_received():
                if event.opcode in (TEXT, BINARY):
                    message, kind = bytearray(), event.opcode
                if event.opcode not in (TEXT, BINARY, CONTINUATION):
                    continue
                message += event.data
                if not event.fin:
                    continue
                if kind == BINARY:
                    machine.send_binary(bytes(message))
                    continue
                try:
                    message.decode()
                    machine.send_text(bytes(message))
                except UnicodeDecodeError:
                    machine.fail(1007, "invalid UTF-8")
        connection.socket.settimeout(5)
        while connection.socket.recv(65536):  # until the client ends, so that nothing is lost to a TCP reset
            pass

    @staticmethod
    def flush(machine, connection):
        for data in machine.data_to_send():
            if data:
                connection.send(data)
            else:
                connection.socket.shutdown(socket.SHUT_WR)
                return False
        return not machine.eof_sent


def quiet():
    import logging
    logger = logging.getLogger("quiet")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


@pytest.fixture
def echo_server():
    servers = []

    def start(**options):
        servers.append(EchoServer(**options))
        return servers[-1]
    yield start
    for server in servers:
        server.stop()


def manifests(address, certificate=None, annotations=None, **registry):
    return documents(bridge(be={"type": "static", "domain": address, "port": 80, **registry}),
                     *([tls_secret("cert", certificate)] if certificate else []),
                     ingress("all", "be.static:80", host="test.com", tls_secret="cert" if certificate else None,
                             annotations=annotations))


def connect(gateway, tls=None, path="/chat?x=1", **options):
    port = gateway.https_port if tls else gateway.http_port
    return websockets.sync.client.connect(
        f"{'wss' if tls else 'ws'}://test.com:{port}{path}", sock=socket.create_connection(("127.0.0.1", port)),
        ssl=tls, max_size=None, **options)


# --- a real client and server


@pytest.mark.parametrize("transport", ["clear", "tls"])
def test_messages(start_gateway, echo_server, authority, certificate, transport):
    server = echo_server()
    gateway = start_gateway(manifests(server.address, certificate))
    tls = authority.client_context(["http/1.1"]) if transport == "tls" else None
    with nothing_left(gateway):
        with connect(gateway, tls, compression=None, subprotocols=["echo"]) as client:
            assert client.subprotocol == "echo"
            for message in ("", "hello", "wörld", b"", b"\0\1\2", os.urandom(100_000), "x" * 70000):
                client.send(message)
                assert client.recv(10) == message
            big = os.urandom(MIB)
            client.send(big)
            assert sha(client.recv(30)) == sha(big)
            client.send(["frag", "men", "ted"])
            assert client.recv(10) == "fragmented"
            assert client.ping(b"payload").wait(5)
            client.send("ping me")
            assert client.recv(10) == "pong seen"
            assert metrics(gateway)["sluice_exchanges_active"] == 1
    assert server.paths == ["/chat?x=1"] and server.closed == [(1000, "")]
    line = gateway.log_lines(1)[0]
    assert line["response_code"] == "101" and line["response_flags"] == "-"
    assert int(line["bytes_received"]) > MIB and int(line["bytes_sent"]) > MIB


@pytest.mark.parametrize("code,reason", [(1000, "done"), (1001, "away"), (1011, "broken"), (3000, "ours"), (4999, "")])
def test_close_codes_both_ways(start_gateway, echo_server, code, reason):
    server = echo_server()
    gateway = start_gateway(manifests(server.address))
    with connect(gateway) as client:
        client.close(code, reason)
    wait_until(lambda: server.closed == [(code, reason)])
    with connect(gateway) as client:
        client.send(f"close {code} {reason}")
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


def test_compression_is_negotiated_end_to_end(start_gateway, echo_server):
    server = echo_server()
    gateway = start_gateway(manifests(server.address))
    with connect(gateway) as client:
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for i in range(20):
            client.send(f"text that compresses well, {i} " * 1000)
            assert client.recv(10) == f"text that compresses well, {i} " * 1000
    wait_until(lambda: server.compression)
    assert "permessage-deflate" in server.compression[0]
    # Both frames and context are the ends' own; the log counts what crossed.
    assert int(gateway.log_lines(1)[0]["bytes_received"]) < 50_000


def test_refused_upgrade(proxy):
    gateway, _ = proxy(lambda r, c: simple_response(b"no", "403 Forbidden"))
    with gateway.connect() as client:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        response = client.response()
        assert (response.status, response.body) == (403, b"no")
        client.request(path="/next")
        assert client.response().status == 403  # the connection goes on as HTTP


def test_upgrade_fields_reach_the_server(proxy):
    heads = []

    def handler(request, connection):
        heads.append(request)
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-More: 1\r\n\r\nfirst bytes")
        connection.socket.shutdown(socket.SHUT_WR)
        raise EOFError
    gateway, _ = proxy(handler)
    with gateway.connect() as client:
        client.request(headers={"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
                                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        response = client.response()
        assert response.status == 101 and response.header("upgrade") == "websocket" and response.header("x-more") == "1"
        assert response.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "upgrade" in response.header("connection").lower()
        assert client.read_to_end() == b"first bytes"
    assert heads[0].header("upgrade").lower() == "websocket" and heads[0].header("connection").lower() == "upgrade"
    assert heads[0].header("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ=="


def test_wss_upstream(start_gateway, echo_server, authority):
    server = echo_server(context=authority.server_context("inner"))
    gateway = start_gateway(manifests(server.address, protocol="https"))
    with connect(gateway) as client:
        for size in (0, 10, MIB):
            body = os.urandom(size)
            client.send(body)
            assert sha(client.recv(30)) == sha(body)


def test_custom_log_format(start_gateway, echo_server):
    """A format that shows fields of the heads gets them, however long ago the heads came."""
    server = echo_server()
    gateway = start_gateway(manifests(server.address), "--access-log-format",
                            "%REQ(:PATH)% %REQ(X-USER)% %RESP(SEC-WEBSOCKET-PROTOCOL)% %RESPONSE_CODE%")
    with nothing_left(gateway):
        with connect(gateway, subprotocols=["echo"], additional_headers={"X-User": "me"}) as client:
            client.send("x")
            assert client.recv(5) == "x"
    wait_until(lambda: gateway.log_path.exists() and gateway.log_path.read_text())
    assert gateway.log_path.read_text() == "/chat?x=1 me echo 101\n"


def test_many_tunnels(start_gateway, echo_server):
    """100 tunnels at a time, idle and used in turn; memory and descriptors go back."""
    server = echo_server(compression=None)
    gateway = start_gateway(manifests(server.address))
    with nothing_left(gateway):
        clients = [connect(gateway, compression=None, legacy=True) for _ in range(100)]
        assert memory(gateway)["exchanges"] == 100
        assert memory(gateway)["block_bytes_in_use"] <= 256 * 1024, "an idle tunnel holds no buffer"
        for round_ in range(3):
            for i, client in enumerate(clients):
                client.send(f"{round_} {i}")
            for i, client in enumerate(clients):
                assert client.recv(10) == f"{round_} {i}"
        for client in clients:
            client.close()


def test_idle_tunnel_outlives_the_route_timeout(start_gateway, echo_server):
    server = echo_server()
    gateway = start_gateway(manifests(server.address, annotations={"higress.io/timeout": "1"}))
    with connect(gateway) as client:
        time.sleep(2)  # the timeout is for the response, which came with 101
        client.send("still here")
        assert client.recv(5) == "still here"


def test_tunnels_count_as_connections_until_they_end(start_gateway, echo_server):
    """limit-connections: a third tunnel of a client is refused while two last, however they end."""
    server = echo_server()
    gateway = start_gateway(manifests(server.address, annotations={"nginx.ingress.kubernetes.io/limit-connections": "2"}))
    for end in (lambda client: client.close(), lambda client: client.socket.close()):
        open_ones = [connect(gateway) for _ in range(2)]
        for client in open_ones:
            client.send("hello")
            assert client.recv(timeout=5) == "hello"
        for _ in range(3):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                connect(gateway)
            assert refused.value.response.status_code == 503
        for client in open_ones:
            end(client)
        wait_until(lambda: gateway.get("/").status != 503, 5, "their places are free")


def test_tunnel_survives_configuration_changes(start_gateway, echo_server):
    server = echo_server()
    gateway = start_gateway(manifests(server.address))
    with connect(gateway) as client:
        for i in range(10):
            gateway.apply("more.yaml", ingress(f"more{i}", "be.static:80", host=f"m{i}.com"))
            client.send(str(i))
            assert client.recv(5) == str(i)
        gateway.write("all.yaml", "")  # its own route goes
        wait_until(lambda: gateway.get("/", host="test.com").status == 404)
        client.send("on the old snapshot")
        assert client.recv(5) == "on the old snapshot"


def raw_server(start_backend, conversation):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        conversation(connection)
    return start_backend(raw=raw)


def upgrade(client):
    client.request(headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert client.response().status == 101


def test_back_pressure_both_ways(start_gateway, start_backend):
    """A server that floods and a client that floods, neither reading: memory stays bounded; then all bytes arrive."""
    size = 32 * MIB
    pattern = os.urandom(MIB)
    go = threading.Event()
    digest = {}

    def conversation(connection):
        sender = threading.Thread(target=lambda: [connection.send(pattern) for _ in range(size // MIB)], daemon=True)
        sender.start()
        go.wait(30)
        digest["server"] = hash_of_next(connection, size)
        sender.join(30)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.read_to_end()
    backend = raw_server(start_backend, conversation)
    gateway = start_gateway(manifests(backend.address))
    with nothing_left(gateway):
        with gateway.connect(timeout=30) as client:
            upgrade(client)
            sent = [0]

            def flood():
                for _ in range(size // MIB):
                    client.send(pattern)
                    sent[0] += 1
            sender = threading.Thread(target=flood, daemon=True)
            sender.start()

            def stalled():
                before = sent[0]
                time.sleep(0.5)
                return before == sent[0]
            wait_until(stalled, 20, "back-pressure")
            assert sent[0] < size // MIB
            assert memory(gateway)["block_bytes_in_use"] < 2 * MIB
            go.set()
            expected = sha(pattern * (size // MIB))
            assert hash_of_next(client, size) == expected
            sender.join(30)
            wait_until(lambda: digest.get("server") == expected)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read_to_end() == b""


@pytest.mark.parametrize("who", ["client", "server"])
def test_abrupt_end_reaches_the_other_side(start_gateway, start_backend, who):
    ended = threading.Event()

    def conversation(connection):
        if who == "server":
            connection.read_exactly(1)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()
            return
        try:
            connection.read_to_end()
        except OSError:
            pass
        ended.set()
    backend = raw_server(start_backend, conversation)
    gateway = start_gateway(manifests(backend.address))
    with nothing_left(gateway):
        client = gateway.connect()
        upgrade(client)
        if who == "client":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
            assert ended.wait(5)
        else:
            client.send(b"x")
            assert client.closed()
            client.socket.close()


# --- over HTTP/2 (RFC 8441)


def frame(opcode, payload=b"", fin=True, mask=b"abcd", rsv=0, masked=True, length_bytes=None):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    n = len(payload)
    kind = length_bytes if length_bytes is not None else 0 if n < 126 else 2 if n < 65536 else 8
    bit = 0x80 if masked else 0
    head += bytes([bit | n]) if kind == 0 else bytes([bit | 126]) + struct.pack(">H", n) if kind == 2 else (
        bytes([bit | 127]) + struct.pack(">Q", n))
    if not masked:
        return head + payload
    repeated = mask * (n // 4 + 1)
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:n], "big")).to_bytes(n, "big")


def extended_connect(client, path="/chat", headers=()):
    return client.request(pseudo=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", client.scheme),
                                  (":authority", "test.com"), (":path", path)],
                          headers=[("sec-websocket-version", "13"), ("origin", "http://test.com"), *headers], end=False)


@pytest.mark.parametrize("transport", ["clear", "tls"])
def test_over_http2(start_gateway, echo_server, authority, certificate, transport):
    server = echo_server(compression=None)
    gateway = start_gateway(manifests(server.address, certificate))
    context = authority.client_context(["h2"]) if transport == "tls" else None
    with nothing_left(gateway):
        with H2Client(gateway.https_port if context else gateway.http_port, context=context) as client:
            client.until(lambda: client.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1)
            streams = [extended_connect(client, headers=[("sec-websocket-protocol", "echo")]) for _ in range(5)]
            for stream in streams:
                message = client.head(stream)
                assert message.status == 200 and message.header("sec-websocket-protocol") == "echo", message
                for name in ("sec-websocket-accept", "upgrade", "connection"):
                    assert message.header(name) is None
            for stream in streams:
                message = client.streams[stream]
                client.send(stream, frame(1, b"hello"))
                client.until(lambda: message.body == b"\x81\x05hello")
                payload = os.urandom(MIB)
                client.send(stream, frame(2, payload))
                expected = b"\x82\x7f" + struct.pack(">Q", MIB) + payload
                client.until(lambda: len(message.body) == 7 + len(expected), 20)
                assert sha(message.body[7:]) == sha(expected)
            # an ordinary request beside them
            client.send(streams[0], frame(8, struct.pack(">H", 1000)), end=True)
            message = client.response(streams[0])
            assert message.ended and bytes(message.body[-4:]) == b"\x88\x02" + struct.pack(">H", 1000)
            client.reset(streams[1])
            wait_until(lambda: len(server.closed) == 2)
    assert sorted(server.closed, key=str)[:1] == [(1000, "")]
    line = gateway.log_lines(1)[0]
    assert line["response_code"] in ("200", "101") and line["protocol"] == "HTTP/2"


def test_over_http2_refused(h2_proxy):
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"no", "403 Forbidden"))
    with H2Client(gateway.http_port) as client:
        message = client.response(extended_connect(client))
        assert message.status == 403 and bytes(message.body) == b"no"
        assert client.get().status == 403
    request = backend.requests[0]
    assert request.method == "GET" and request.header("upgrade") == "websocket"
    assert len(base64.b64decode(request.header("sec-websocket-key"))) == 16


DELAY = {"sluice.io/filters": "- name: fault\n  config: {delay: {fixed_ms: 300}}"}
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test.com\r\n\r\n"


@pytest.mark.parametrize("annotations", [None, DELAY], ids=["at once", "after a filter that waits"])
@pytest.mark.parametrize("agreed", [True, False])
def test_over_http2_bytes_wait_for_the_agreement(start_gateway, start_backend, annotations, agreed):
    """What a client sends before the server has agreed to a tunnel could be a request of its own to that server."""
    before, after = [], []

    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.socket.settimeout(0.5)
        try:
            connection.fill()
        except TimeoutError:
            pass
        before.append(connection.buffer)
        if agreed:
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        else:
            connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nnot")
        connection.socket.settimeout(1)
        try:
            while connection.fill() and len(connection.buffer) < 2 * len(SMUGGLED):
                pass
        except TimeoutError:
            pass
        after.append(connection.buffer)
        connection.send(b"forever")
    gateway = start_gateway(manifests(start_backend(raw=raw).address, annotations=annotations))
    with nothing_left(gateway):
        with H2Client(gateway.http_port) as client:
            stream = extended_connect(client)
            client.send(stream, SMUGGLED)
            assert client.head(stream).status == (200 if agreed else 403)
            client.send(stream, SMUGGLED)
            client.until(lambda: client.streams[stream].body.endswith(b"forever"))
    assert before == [b""]
    assert after == [SMUGGLED * 2 if agreed else b""]


def test_over_http2_declined_keeps_the_upstream_connection(h2_proxy):
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"no", "403 Forbidden"))
    with H2Client(gateway.http_port) as client:
        for _ in range(3):
            assert client.response(extended_connect(client)).status == 403
    assert len(backend.requests) == 3 and len(backend.connections) == 1


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2"])
def test_over_http2_no_other_http(h2_proxy, protocol):
    """A server that took up HTTP/2 behind our back would serve requests that we have not seen."""
    gateway, backend = h2_proxy()
    with H2Client(gateway.http_port) as client:
        message = client.response(client.request(pseudo=[
            (":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":authority", "test.com"), (":path", "/")],
            end=False))
        assert message.reset == h2.errors.ErrorCodes.PROTOCOL_ERROR, message
        assert client.get().status == 200
    assert [r.method for r in backend.requests] == ["GET"] and backend.requests[0].header("upgrade") is None


def test_over_http2_a_stated_length_means_nothing(h2_proxy):
    gateway, backend = h2_proxy(lambda r, c: simple_response(b"no", "403 Forbidden"))
    with H2Client(gateway.http_port) as client:
        assert client.response(extended_connect(client, headers=[("content-length", "50")]), 3).status == 403
    assert backend.requests[0].header("content-length") is None


@pytest.mark.parametrize("annotations", [None, DELAY], ids=["at once", "after a filter that waits"])
def test_over_http2_client_has_ended_before_the_agreement(start_gateway, start_backend, annotations):
    got = []

    def conversation(connection):
        got.append(connection.read_to_end())
        connection.send(b"bye")
    backend = raw_server(start_backend, conversation)
    gateway = start_gateway(manifests(backend.address, annotations=annotations))
    with nothing_left(gateway), H2Client(gateway.http_port) as client:
        stream = extended_connect(client)
        client.send(stream, b"all I have", end=True)
        assert bytes(client.response(stream, 5).body) == b"bye"
    assert got == [b"all I have"]


def test_http2_upstream_without_extended_connect(start_gateway, start_h2_backend):
    """Once it is known that it takes none it gets none; what else runs on the connection is not harmed."""
    backend = start_h2_backend()
    gateway = start_gateway(documents(
        bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "http2"}),
        ingress("all", "be.static:80")))
    assert gateway.get("/").status == 200
    with gateway.connect() as client:
        client.request(headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert client.response().status == 502
    assert "extended CONNECT" in gateway.log_lines(2)[1]["upstream_transport_failure_reason"]
    assert gateway.get("/").status == 200
    assert [r.method for r in backend.requests] == ["GET", "GET"] and len(backend.connections) == 1


def test_http2_upstream_that_agrees_and_ends(start_gateway, start_h2_backend):
    backend = start_h2_backend(lambda stream: stream.respond(200), settings={
        h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    gateway = start_gateway(documents(
        bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "http2"}),
        ingress("all", "be.static:80")))
    with gateway.connect(timeout=5) as client:
        upgrade(client)
        assert client.read_to_end() == b""


def test_over_http2_to_an_http2_upstream(start_gateway, start_h2_backend):
    """Extended CONNECT at both ends; and an HTTP/1 client before it."""
    def handler(stream):
        if header_of(stream, ":method") != "CONNECT":
            return stream.respond(400)
        stream.respond(200, end=False)
        done = 0
        while True:
            stream.wait(lambda: len(stream.body) > done or stream.over)
            with stream.changed:
                data, done = bytes(stream.body[done:]), len(stream.body)
            if data:
                stream.send(data)
            if stream.over:
                return stream.send(b"", end=True)

    def header_of(stream, name):
        return stream.header(name)
    backend = start_h2_backend(handler, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    gateway = start_gateway(documents(
        bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "http2"}),
        ingress("all", "be.static:80")))
    with nothing_left(gateway):
        with H2Client(gateway.http_port) as client:
            stream = extended_connect(client)
            assert client.head(stream).status == 200
            client.send(stream, b"some bytes")
            client.until(lambda: client.streams[stream].body == b"some bytes")
            client.send(stream, b"", end=True)
            assert client.response(stream).ended
        with gateway.connect() as client:
            upgrade(client)
            client.send(b"from HTTP/1")
            assert client.read_exactly(11) == b"from HTTP/1"
            client.socket.shutdown(socket.SHUT_WR)
            assert client.read_to_end() == b""
    request = backend.requests[0]
    assert request.header(":protocol") == "websocket" and request.header("upgrade") is None
    assert request.header("sec-websocket-key") is None


# --- the cases of the Autobahn suite, by category, as raw frames


def close_frame(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def split(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


def compressed(data, **kind):
    machine = zlib.compressobj(wbits=-15)
    return (machine.compress(data) + machine.flush(zlib.Z_SYNC_FLUSH))[:-4]


def cases():
    """name → the pieces a client sends, one system call each; then it waits for the end."""
    done = [close_frame()]
    found = {}
    # 1.* framing: sizes of text and binary, whole and chopped
    for kind, name in ((TEXT, "text"), (BINARY, "binary")):
        for n in (0, 1, 125, 126, 127, 128, 65535, 65536):
            payload = b"*" * n
            found[f"1.{name}.{n}"] = [frame(kind, payload), *done]
        found[f"1.{name}.chopped"] = [*split(frame(kind, b"*" * 65536), 997), *done]
        found[f"1.{name}.long-length"] = [frame(kind, b"ab", length_bytes=2), *done]
        found[f"1.{name}.longer-length"] = [frame(kind, b"ab", length_bytes=8), *done]
    # 2.* pings and pongs
    for n in (0, 7, 125, 126):
        found[f"2.ping.{n}"] = [frame(PING, b"\xfe" * n), *done]
    found["2.ping.byte-wise"] = [*split(frame(PING, b"x" * 125), 1), *done]
    found["2.unsolicited-pong"] = [frame(PONG), *done]
    found["2.unsolicited-pong-then-ping"] = [frame(PONG, b"unsolicited"), frame(PING, b"payload"), *done]
    found["2.ten-pings"] = [*[frame(PING, b"payload-%d" % i) for i in range(10)], *done]
    found["2.ten-pings-at-once"] = [b"".join(frame(PING, b"payload-%d" % i) for i in range(10)), *done]
    # 3.* reserved bits
    for rsv in range(1, 8):
        found[f"3.rsv.{rsv}.text"] = [frame(TEXT, b"hello"), frame(TEXT, b"hello", rsv=rsv), frame(PING)]
    for opcode in (BINARY, PING, CLOSE):
        found[f"3.rsv.4.opcode-{opcode}"] = [frame(opcode, b"", rsv=4), frame(PING)]
    # 4.* opcodes
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        found[f"4.opcode.{opcode}"] = [frame(TEXT, b"hello"), frame(opcode, b"x"), frame(PING)]
    # 5.* fragmentation
    two = [frame(TEXT, b"frag", fin=False), frame(CONTINUATION, b"ment")]
    found["5.two"] = [*two, *done]
    found["5.two-at-once"] = [b"".join(two), *done]
    found["5.ping-between"] = [two[0], frame(PING, b"mid"), two[1], *done]
    found["5.byte-wise"] = [*split(two[0] + frame(PING, b"mid") + two[1], 1), *done]
    found["5.fragmented-ping"] = [frame(PING, b"a", fin=False), frame(CONTINUATION, b"b"), *done]
    found["5.fragmented-pong"] = [frame(PONG, b"a", fin=False), frame(CONTINUATION, b"b"), *done]
    found["5.continuation-of-nothing"] = [frame(CONTINUATION, b"non", fin=True), frame(TEXT, b"hello"), *done]
    found["5.continuation-of-nothing-open"] = [frame(CONTINUATION, b"non", fin=False), frame(TEXT, b"hello"), *done]
    found["5.text-inside-text"] = [two[0], frame(TEXT, b"hello"), *done]
    found["5.many"] = [frame(TEXT, b"0", fin=False), *[frame(CONTINUATION, b"%d" % i, fin=False) for i in range(50)],
                       frame(CONTINUATION, b"end"), *done]
    found["5.empty-fragments"] = [frame(TEXT, b"", fin=False), frame(CONTINUATION, b"", fin=False),
                                  frame(CONTINUATION, b""), *done]
    # 6.* UTF-8
    good = ["κόσμε", "\u0000", "\u0080", "\u0800", "\U00010000", "\u007f", "\u07ff", "\uffff", "\U0010ffff", "\ud7ff", "\ue000",
            "\ufffd", "\ufffe", "\U0001fffe"]
    for i, text in enumerate(good):
        data = text.encode("utf-8", "surrogatepass")
        found[f"6.valid.{i}"] = [frame(TEXT, data), *done]
        found[f"6.valid.{i}.fragments"] = [frame(TEXT, b"", fin=False), *[frame(CONTINUATION, bytes([b]), fin=False) for b in data],
                                           frame(CONTINUATION), *done]
    bad = [b"\xce\xba\xed\xa0\x80edited", b"\x80", b"\xbf", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf4\x90\x80\x80",
           b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xfe", b"\xff",
           b"\xfe\xfe\xff\xff", b"\xce", b"\xe1\xbd"]
    for i, data in enumerate(bad):
        found[f"6.invalid.{i}"] = [frame(TEXT, data), frame(PING), *done]
        found[f"6.invalid.{i}.fragments"] = [frame(TEXT, b"ok", fin=False), frame(CONTINUATION, data, fin=False),
                                             frame(CONTINUATION, b"x"), *done]
    # 7.* close handshake
    found["7.close-empty"] = [frame(CLOSE)]
    found["7.close-twice"] = [close_frame(), close_frame()]
    found["7.ping-after-close"] = [close_frame(), frame(PING)]
    found["7.text-after-close"] = [close_frame(), frame(TEXT, b"late")]
    found["7.close-inside-fragments"] = [frame(TEXT, b"frag", fin=False), close_frame(), frame(CONTINUATION, b"ment")]
    found["7.large-then-close"] = [frame(TEXT, b"B" * 256 * 1024), close_frame(), frame(PING)]
    found["7.close-one-byte"] = [frame(CLOSE, b"a")]
    found["7.close-reason-123"] = [close_frame(1000, b"r" * 123)]
    found["7.close-reason-124"] = [close_frame(1000, b"r" * 124)]
    found["7.close-reason-not-utf8"] = [close_frame(1000, b"\xce\xba\xed\xa0\x80")]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 0, 999, 1004, 1005, 1006, 1012,
                 1013, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        found[f"7.code.{code}"] = [close_frame(code)]
    found["7.no-close-at-all"] = [frame(TEXT, b"hello")]
    # 9.* limits
    for kind, name in ((TEXT, "text"), (BINARY, "binary")):
        for n in (64 * 1024, 256 * 1024, MIB, 4 * MIB):
            found[f"9.{name}.{n}"] = [frame(kind, b"*" * n), *done]
        for n in (64, 1024, 65536):
            pieces = split(b"*" * MIB if n > 64 else b"*" * 65536, n)
            found[f"9.{name}.fragments-of-{n}"] = [
                b"".join(frame(kind if i == 0 else CONTINUATION, p, fin=i == len(pieces) - 1) for i, p in enumerate(pieces)), *done]
        found[f"9.{name}.chopped"] = [*split(frame(kind, b"*" * MIB), 4096), *done]
    found["9.many-messages"] = [frame(TEXT, b"m" * 16) * 1000, *done]
    # 10.* auto-fragmentation, and what is not masked
    found["10.fragments-of-1300"] = [*[frame(TEXT if i == 0 else CONTINUATION, p, fin=i == 49)
                                       for i, p in enumerate(split(b"*" * 65000, 1300))], *done]
    found["10.unmasked"] = [frame(TEXT, b"hello", masked=False), *done]
    # 12.*, 13.* compression
    for n in (16, 1024, 65536, 131072):
        data = (b"{\"a\": [1, 2, 3], \"text\": \"some text that repeats\"}" * (n // 48 + 1))[:n]
        found[f"12.compressed.{n}"] = [frame(TEXT, compressed(data), rsv=4), *done]
        found[f"12.compressed-fragments.{n}"] = [
            *[frame(TEXT if i == 0 else CONTINUATION, p, fin=last, rsv=4 if i == 0 else 0)
              for i, (p, last) in enumerate((p, p is pieces[-1]) for pieces in [split(compressed(data), 200)] for p in pieces)], *done]
    found["13.not-compressed-though-agreed"] = [frame(TEXT, b"plain"), *done]
    found["13.bad-deflate"] = [frame(TEXT, b"\xff\xff\xff\xff", rsv=4), *done]
    return found


CASES = cases()


def hash_of_next(connection, size):
    """SHA-256 of the next `size` bytes."""
    digest = hashlib.sha256(connection.buffer)
    size -= len(connection.buffer)
    connection.buffer = b""
    while size:
        data = connection.socket.recv(min(size, 65536))
        if not data:
            raise EOFError(f"{size} bytes are missing")
        size -= len(data)
        digest.update(data)
    return digest.hexdigest()


def run_case(port, pieces, deflate):
    """Everything the server sends in answer, head included (without what differs by nature), and how it ends."""
    with Connection("127.0.0.1", port, timeout=10) as client:
        extension = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
        client.send(("GET / HTTP/1.1\r\nHost: test.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension if deflate else ''}\r\n"
                     ).encode())
        head = client.response()
        fields = sorted((n, v) for n, v in head.headers if n.startswith("sec-") or n == "upgrade")
        ended = threading.Event()
        received = []

        def read():
            try:
                while client.fill():
                    pass
                received.append("end")
            except (TimeoutError, socket.timeout):
                received.append("timeout")
            except OSError:
                received.append("end")  # RST or FIN: which of them is a race in the server itself
            ended.set()
        threading.Thread(target=read, daemon=True).start()
        try:
            for piece in pieces:
                client.send(piece)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed already
        assert ended.wait(15)
        return head.status, fields, bytes(client.buffer), received[0]


@pytest.fixture(scope="module")
def transparency(tmp_path_factory):
    """An echo server, plain and with compression, and gateways before it."""
    from harness import Gateway
    directory = tmp_path_factory.mktemp("transparency")
    server = StrictEchoServer()
    gateway = Gateway(directory / "conf")
    gateway.write("all.yaml", manifests(server.address))
    gateway.start()
    yield server, gateway
    gateway.stop()
    server.stop()


@pytest.mark.parametrize("category", sorted({name.split(".")[0] for name in CASES}, key=int))
def test_transparency(transparency, category):
    server, gateway = transparency
    different = []
    names = [name for name in CASES if name.split(".")[0] == category]
    with nothing_left(gateway):
        for name in names:
            deflate = int(category) >= 12
            direct = run_case(server.port, CASES[name], deflate)
            through = run_case(gateway.http_port, CASES[name], deflate)
            assert direct[0] == 101 and direct[3] == "end", (name, direct)
            if direct != through:
                different.append((name, [(len(x[2]), x[2][-60:], x[3], x[0], x[1]) for x in (direct, through)]))
    assert not different, different


def test_the_number_of_cases():
    assert len(CASES) >= 180
