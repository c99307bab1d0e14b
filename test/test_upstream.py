"""The upstream side: failures and their statuses and flags, retries, closing races, balancing, limits, timeouts."""

import collections
import contextlib
import json
import socket
import socketserver
import struct
import threading
import time

import pytest

from harness import Backend, bridge, documents, free_port, ingress, simple_response, wait_until
from peers import nothing_left


def last_log(gateway, count=1):
    return gateway.log_lines(count)[count - 1]


def reset(connection):
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


def test_no_route(start_gateway):
    gateway = start_gateway("")
    response = gateway.get("/")
    assert (response.status, response.body) == (404, b"")
    line = last_log(gateway)
    assert (line["response_flags"], line["response_code_details"], line["response_code"]) == ("NR", "route_not_found", "404")


def test_no_endpoint(start_gateway):
    service = '{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","namespace":"default"},"spec":{"ports":[{"port":80}]}}'
    route = ('{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"i","namespace":"default"},"spec":'
             '{"ingressClassName":"higress","rules":[{"http":{"paths":[{"path":"/","pathType":"Prefix","backend":'
             '{"service":{"name":"s","port":{"number":80}}}}]}}]}}')
    gateway = start_gateway(documents(service, route))
    response = gateway.get("/")
    assert (response.status, response.body) == (503, b"no healthy upstream")
    line = last_log(gateway)
    assert line["response_flags"] == "UH" and line["route_name"] == "default/i"


def test_connection_refused(start_gateway):
    gateway = start_gateway(documents(bridge(be=f"127.0.0.1:{free_port()}"), ingress("all", "be.static:80")))
    response = gateway.get("/")
    assert response.status == 503
    assert response.body == b"upstream connect error or disconnect/reset before headers. reset reason: connection failure"
    line = last_log(gateway)
    assert line["response_flags"] == "UF,URX"
    assert "refused" in line["upstream_transport_failure_reason"]


@pytest.mark.parametrize("answer,flag", [(b"nonsense\r\n\r\n", "UPE"), (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "UPE"),
                                         (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "UPE"),
                                         (b"HTTP/1.1 200 OK\nA: b\n\n", "UPE")])
def test_broken_response(proxy, answer, flag):
    gateway, _ = proxy(lambda r, c: answer)
    response = gateway.get("/")
    assert response.status == 502
    assert response.body.endswith(b"reset reason: protocol error")
    assert last_log(gateway)["response_flags"] == flag


def test_upstream_closes_before_the_response(proxy):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
    gateway, backend = proxy(raw=raw)
    response = gateway.get("/")
    assert response.status == 503 and response.body.endswith(b"reset reason: connection termination")
    assert last_log(gateway)["response_flags"] == "UC"


def test_upstream_killed_in_the_body_cuts_the_response_off(proxy):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        time.sleep(0.1)
        reset(connection)
    gateway, _ = proxy(raw=raw)
    with gateway.connect() as client:
        client.request()
        assert client.response_head().status == 200
        with pytest.raises((EOFError, ConnectionError)):
            client.read_exactly(100)
    assert last_log(gateway)["response_flags"] == "UC"


def test_chunked_response_cut_off_is_not_completed(proxy):
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        time.sleep(0.1)
    gateway, _ = proxy(raw=raw)
    with gateway.connect() as client:
        client.request()
        client.response_head()
        with pytest.raises((EOFError, ConnectionError)):
            client.read_until(b"0\r\n\r\n")


def test_route_timeout(proxy):
    release = threading.Event()
    gateway, _ = proxy(lambda r, c: release.wait(10) and None, annotations={"higress.io/timeout": "1"})
    started = time.monotonic()
    response = gateway.get("/")
    assert (response.status, response.body) == (504, b"upstream request timeout")
    assert 0.9 < time.monotonic() - started < 3
    assert last_log(gateway)["response_flags"] == "UT"
    release.set()


@pytest.mark.parametrize("annotation", ["higress.io/timeout", "nginx.ingress.kubernetes.io/proxy-next-upstream-timeout"])
def test_timeouts_begin_when_the_request_is_complete(proxy, annotation):
    """They are the upstream's; a client may take longer to upload."""
    gateway, _ = proxy(lambda r, c: time.sleep(5) or None if r.path == "/slow" else simple_response(r.body),
                       annotations={annotation: "1"})
    for path, status in ("/", 200), ("/slow", 504):
        with gateway.connect() as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n".encode())
            for _ in range(8):
                time.sleep(0.2)
                client.send(b"x")
            started = time.monotonic()
            response = client.response()
            assert response.status == status
            if status == 504:
                assert 0.9 < time.monotonic() - started < 3


def test_closing_race_never_loses_a_request(proxy):
    """A backend that closes each connection right after a response, so that reuse always meets a closing connection."""
    def raw(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(simple_response())
        connection.socket.close()
    gateway, _ = proxy(raw=raw)
    with gateway.connect() as client:
        for i in range(300):
            client.request("GET" if i % 2 else "DELETE")
            assert client.response().status == 200, i


def test_closing_race_never_loses_a_post(start_gateway, start_backend):
    """The same for requests that may not be repeated once the server has seen them."""
    seen = collections.Counter()
    closed = threading.Semaphore(0)

    def raw(connection):
        head = connection.read_until(b"\r\n\r\n").decode()
        seen[head.split(" ")[1]] += 1
        connection.read_exactly(5)
        connection.send(simple_response())
        connection.socket.close()
        closed.release()
    backend = start_backend(raw=raw)
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80")))
    with gateway.connect() as client:
        for i in range(300):
            client.request("POST", f"/{i}", body=b"hello")
            assert client.response().status == 200, i
            # What comes before the server closes is taken by its kernel: then nobody can know that it was not read.
            closed.acquire()
    assert all(count == 1 for count in seen.values()) and len(seen) == 300


def test_retry_goes_to_another_endpoint(start_gateway, start_backend):
    good = start_backend(lambda r, c: simple_response(b"good"))
    gateway = start_gateway(documents(bridge(be=[f"127.0.0.1:{free_port()}", good.address]), ingress("all", "be.static:80")))
    for _ in range(20):
        response = gateway.get("/")
        assert (response.status, response.body) == (200, b"good")


def test_retry_on_503_by_default_and_attempt_count(proxy):
    counts = []

    def handler(request, connection):
        counts.append(request.header("x-envoy-attempt-count"))
        return simple_response(b"x", "503 Service Unavailable") if len(counts) < 3 else simple_response()
    gateway, _ = proxy(handler)
    assert gateway.get("/").status == 200
    assert counts == ["1", "2", "3"]


def test_post_is_not_retried_on_503(proxy):
    gateway, backend = proxy(lambda r, c: simple_response(b"x", "503 Service Unavailable"))
    assert gateway.get("/", method="POST", body=b"a").status == 503
    assert len(backend.requests) == 1


def test_retry_replays_the_body(proxy):
    seen = []

    def handler(request, connection):
        seen.append(request.body)
        return simple_response(b"x", "503 Service Unavailable") if len(seen) == 1 else simple_response()
    gateway, _ = proxy(handler)
    assert gateway.get("/", method="PUT", body=b"payload" * 1000).status == 200
    assert seen == [b"payload" * 1000] * 2


def test_retries_are_exhausted(proxy):
    gateway, backend = proxy(lambda r, c: simple_response(b"busy", "503 Service Unavailable"))
    response = gateway.get("/")
    assert (response.status, response.body) == (503, b"busy")
    assert len(backend.requests) == 3


def test_weights(start_gateway, start_backend):
    a = start_backend(lambda r, c: simple_response(b"a"))
    b = start_backend(lambda r, c: simple_response(b"b"))
    gateway = start_gateway(documents(bridge(a=a.address, b=b.address), ingress("all", "90% a.static:80\n10% b.static:80")))
    with gateway.connect() as client:
        counts = collections.Counter()
        for _ in range(1000):
            client.request()
            counts[client.response().body] += 1
    assert 850 < counts[b"a"] < 950


@pytest.mark.parametrize("algorithm,spread", [("round_robin", True), ("least_request", True), ("random", True)])
def test_balancing_spreads(start_gateway, start_backend, algorithm, spread):
    backends = [start_backend() for _ in range(3)]
    gateway = start_gateway(documents(bridge(be=[b.address for b in backends]), ingress(
        "all", "be.static:80", annotations={"higress.io/load-balance": algorithm})))
    with gateway.connect() as client:
        for _ in range(300):
            client.request()
            assert client.response().status == 200
    counts = [len(b.requests) for b in backends]
    assert min(counts) >= (100 if algorithm == "round_robin" else 50), counts


def test_hash_by_header_is_stable(start_gateway, start_backend):
    backends = [start_backend(lambda r, c, i=i: simple_response(str(i).encode())) for i in range(4)]
    gateway = start_gateway(documents(bridge(be=[b.address for b in backends]), ingress(
        "all", "be.static:80", annotations={"nginx.ingress.kubernetes.io/upstream-hash-by": "$http_x-user"})))
    chosen = {}
    for _ in range(3):
        for user in range(40):
            body = gateway.get("/", headers={"X-User": f"u{user}"}).body
            assert chosen.setdefault(user, body) == body
    assert len(set(chosen.values())) == 4


def test_cookie_affinity(start_gateway, start_backend):
    backends = [start_backend(lambda r, c, i=i: simple_response(str(i).encode())) for i in range(4)]
    gateway = start_gateway(documents(bridge(be=[b.address for b in backends]), ingress(
        "all", "be.static:80", annotations={"nginx.ingress.kubernetes.io/affinity": "cookie",
                                            "nginx.ingress.kubernetes.io/session-cookie-name": "stick"})))
    first = gateway.get("/")
    cookie = first.header("set-cookie")
    assert cookie.startswith("stick=") and "HttpOnly" in cookie
    for _ in range(10):
        again = gateway.get("/", headers={"Cookie": cookie.split(";")[0]})
        assert again.body == first.body and again.header("set-cookie") is None


def test_affinity_outlives_changes_of_its_service(start_gateway, start_backend):
    """An exchange that waits while its service's policy changes twice names its cookie by the one it began with."""
    release = threading.Event()
    backend = start_backend(lambda r, c: (r.path != "/1" or release.wait(10)) and simple_response())

    def manifests(name):
        return documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations={
            "nginx.ingress.kubernetes.io/affinity": "cookie", "nginx.ingress.kubernetes.io/session-cookie-name": name,
            "sluice.io/filters": "- name: fault\n  config: {delay: {fixed_ms: 1000}, header: {name: x-wait}}"}))

    def cookie_of(response):
        return response.header("set-cookie").split("=")[0]
    gateway = start_gateway(manifests("first-policy-with-a-long-name"))
    with gateway.connect() as waiting:
        waiting.request(path="/1", headers={"x-wait": "1"})
        time.sleep(0.2)
        gateway.apply("all.yaml", manifests("second-policy-with-a-long-name"))
        assert cookie_of(gateway.get("/2")) == "second-policy-with-a-long-name"
        wait_until(lambda: len(backend.requests) == 2, what="the request that waits")
        gateway.apply("all.yaml", manifests("third-policy-with-a-long-name"))
        assert cookie_of(gateway.get("/3")) == "third-policy-with-a-long-name"
        time.sleep(0.2)
        release.set()
        assert cookie_of(waiting.response()) == "first-policy-with-a-long-name"


def test_client_disconnect_cancels_the_upstream_request(proxy):
    gone = threading.Event()

    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while connection.socket.recv(1):
                pass
        except OSError:
            pass
        gone.set()
        raise EOFError
    gateway, _ = proxy(handler)
    with gateway.connect() as client:
        client.request()
        client.response_head()
        reset(client)
    assert gone.wait(5)
    assert last_log(gateway)["response_flags"] == "DC"


def test_client_reset_in_the_middle_of_an_upload(proxy):
    seen, gone = threading.Event(), threading.Event()

    def raw(connection):
        connection.read_until(b"part")
        seen.set()
        with contextlib.suppress(OSError):
            connection.read_to_end()
        gone.set()
    gateway, backend = proxy(raw=raw)
    for head in b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", b"Content-Length: 100\r\n\r\npart":
        seen.clear(), gone.clear()
        with nothing_left(gateway), gateway.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
            assert seen.wait(5)
            reset(client)
            assert gone.wait(5)
    assert all(line["response_flags"] == "DC" for line in gateway.log_lines(2))
    assert not any(connection.buffer.endswith(b"0\r\n\r\n") for connection in backend.connections)


def test_half_closing_client_gets_its_answer(proxy):
    gateway, _ = proxy(lambda r, c: time.sleep(0.3) or simple_response(b"late"))
    with gateway.connect() as client:
        client.request()
        client.socket.shutdown(socket.SHUT_WR)
        assert client.response().body == b"late"
        assert client.closed()


def test_half_closing_client_is_not_waited_for_forever(proxy):
    release = threading.Event()
    gateway, _ = proxy(lambda r, c: release.wait(20) and None, "--half-close-grace-ms", "300")
    with gateway.connect() as client:
        client.request()
        client.socket.shutdown(socket.SHUT_WR)
        assert client.closed(5)
    assert last_log(gateway)["response_flags"] == "DC"
    release.set()


def test_ipv6_backend(start_gateway):
    with Backend(host="::1") as backend:
        gateway = start_gateway(documents(bridge(be=f"[::1]:{backend.port}"), ingress("all", "be.static:80")))
        assert gateway.get("/").status == 200


def test_dns_backend(start_gateway, start_backend):
    backend = start_backend()
    gateway = start_gateway(documents(
        bridge(be={"type": "dns", "domain": "be.localhost", "port": backend.port}), ingress("all", f"be.dns:{backend.port}")))
    wait_until(lambda: gateway.get("/").status == 200, what="DNS resolution")


class Records(socketserver.BaseRequestHandler):
    """A DNS server: one A and one AAAA record for every name."""

    def handle(self):
        query, sock = self.request
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack("!H", query[end - 4:end - 2])[0]
        data = {1: socket.inet_aton("127.0.0.1"), 28: socket.inet_pton(socket.AF_INET6, "::1")}.get(kind, b"")
        answer = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data if data else b""
        sock.sendto(query[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(data), 0, 0) + query[12:end] + answer, self.client_address)


@pytest.mark.parametrize("ipv6", ["refuses", "is silent"])
def test_happy_eyeballs(start_gateway, start_backend, ipv6):
    """A name with an IPv6 address that does not work costs a request a quarter of a second at the most."""
    backend = start_backend(lambda r, c: simple_response(headers=["Connection: close"]))
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(socket.socket(socket.AF_INET6))
        dead.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        dead.bind(("::1", backend.port))
        if ipv6 == "is silent":
            dead.listen(0)
            for _ in range(4):  # the queue is full: further connections get no answer
                filler = stack.enter_context(socket.socket(socket.AF_INET6))
                filler.setblocking(False)
                filler.connect_ex(("::1", backend.port))
        server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Records)
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway = start_gateway(documents(
            bridge(be={"type": "dns", "domain": "two.example", "port": backend.port}), ingress("all", f"be.dns:{backend.port}")),
            "--dns-server", f"127.0.0.1:{server.server_address[1]}")
        wait_until(lambda: gateway.get("/").status == 200, what="DNS resolution")
        assert gateway.admin("/clusters").count('"address"') == 2
        times = []
        for _ in range(10):
            started = time.monotonic()
            assert gateway.get("/").status == 200
            times.append(time.monotonic() - started)
        assert max(times) < 1, times
        assert (max(times) > 0.24) == (ipv6 == "is silent"), times


def test_dns_gone(start_gateway):
    gateway = start_gateway(documents(
        bridge(be={"type": "dns", "domain": "nowhere.invalid", "port": 80}), ingress("all", "be.dns:80")),
        "--dns-server", f"127.0.0.1:{free_port()}")
    assert gateway.get("/").status == 503


@pytest.mark.parametrize("gone", ["no server", "no such name"])
def test_dns_gone_later(start_gateway, start_backend, gone):
    """What was found stays in use, long after its time to live."""
    class Server(Records):
        asked, exists = 0, True

        def handle(self):
            Server.asked += 1
            query, sock = self.request
            end = query.index(b"\0", 12) + 5
            data = socket.inet_aton("127.0.0.1") if query[end - 3] == 1 and Server.exists else b""
            answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 1, len(data)) + data if data else b""
            flags = 0x8180 if Server.exists else 0x8183
            sock.sendto(query[:2] + struct.pack("!HHHHH", flags, 1, bool(data), 0, 0) + query[12:end] + answer,
                        self.client_address)
    backend = start_backend()
    server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        gateway = start_gateway(documents(
            bridge(be={"type": "dns", "domain": "be.example", "port": backend.port}), ingress("all", f"be.dns:{backend.port}")),
            "--dns-server", f"127.0.0.1:{server.server_address[1]}")
        wait_until(lambda: gateway.get("/").status == 200, what="DNS resolution")
        before = Server.asked
        wait_until(lambda: Server.asked > before, 5, "a second lookup")  # so the time to live is kept to
        before = Server.asked
        Server.exists = False
        if gone == "no server":
            server.shutdown()
            server.server_close()
        else:
            wait_until(lambda: Server.asked > before + 1, 5, "a lookup in vain")
        for _ in range(15):
            assert gateway.get("/").status == 200
            time.sleep(0.2)
    finally:
        server.shutdown()
        server.server_close()


def test_idle_connections_are_closed(proxy):
    gateway, backend = proxy()
    assert gateway.get("/").status == 200
    started = time.monotonic()
    # The scripted backend closes its socket when it reads the end.
    wait_until(lambda: backend.connections[0].socket.fileno() < 0, 15, "the end of the idle connection")
    assert 8 < time.monotonic() - started < 12


def policy(text):
    return {"sluice.io/upstream": text}


def test_active_http_health_check(start_gateway, start_backend):
    sick = threading.Event()
    state = {"bad": sick}

    def handler(request, connection):
        if request.path == "/healthz":
            return simple_response(b"", "500 X" if state["bad"].is_set() else "200 OK")
        return simple_response(b"flaky")
    flaky = start_backend(handler)
    good = start_backend(lambda r, c: simple_response(b"good"))
    gateway = start_gateway(documents(bridge(be=[flaky.address, good.address]), ingress("all", "be.static:80", annotations=policy(
        "health_check: {type: http, path: /healthz, interval_ms: 50, timeout_ms: 500, unhealthy_threshold: 2, healthy_threshold: 2}"))))

    def bodies():
        return {gateway.get("/").body for _ in range(20)}
    wait_until(lambda: bodies() == {b"flaky", b"good"}, what="both endpoints")
    sick.set()
    wait_until(lambda: bodies() == {b"good"}, what="the sick endpoint to leave")
    sick.clear()
    wait_until(lambda: b"flaky" in bodies(), what="the endpoint to come back")
    assert any(r.header("user-agent") == "sluice-health-check" for r in flaky.requests)


def test_verdict_goes_with_the_health_check(start_gateway, start_backend):
    """An endpoint that was unhealthy when the check was taken away, or when it left the service, is not so for ever."""
    def sick(request, connection):
        return simple_response(b"", "500 X") if request.path == "/healthz" else simple_response()
    backend, other = start_backend(sick), start_backend(sick)

    def manifests(address, check):
        return documents(bridge(be=address), ingress("all", "be.static:80", annotations=policy(check)))
    check = "health_check: {type: http, path: /healthz, interval_ms: 30, unhealthy_threshold: 1, healthy_threshold: 1}"
    gateway = start_gateway(manifests(backend.address, check))
    wait_until(lambda: gateway.get("/").status == 503, what="the verdict")
    gateway.apply("all.yaml", manifests(other.address, check))
    backend.handler = None  # answers 200
    gateway.apply("all.yaml", manifests(backend.address, check))
    wait_until(lambda: gateway.get("/").status == 200, what="another endpoint under the old address")
    gateway.apply("all.yaml", manifests(other.address, check))
    wait_until(lambda: gateway.get("/").status == 503, what="the verdict")
    gateway.apply("all.yaml", manifests(other.address, "panic_threshold_percent: 0"))
    wait_until(lambda: gateway.get("/").status == 200, what="no check, no verdict")


def test_active_health_check_over_http2(start_gateway, start_h2_backend):
    state = {"status": 200}

    def handler(stream):
        stream.wait_end()
        stream.respond(state["status"] if stream.path == "/healthz" else 200, body=b"ok")
    backend = start_h2_backend(handler)
    gateway = start_gateway(documents(
        bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "http2"}),
        ingress("all", "be.static:80", annotations=policy(
            "health_check: {type: http, path: /healthz, interval_ms: 50, unhealthy_threshold: 2, healthy_threshold: 2}"))))
    wait_until(lambda: any(r.path == "/healthz" for r in backend.requests), what="a probe")
    assert gateway.get("/").status == 200
    state["status"] = 503
    wait_until(lambda: gateway.get("/").status == 503, what="the verdict")
    state["status"] = 200
    wait_until(lambda: gateway.get("/").status == 200, what="the endpoint to come back")


def test_active_tcp_health_check(start_gateway, start_backend):
    good = start_backend()
    dead = free_port()
    gateway = start_gateway(documents(bridge(be=[good.address, f"127.0.0.1:{dead}"]), ingress("all", "be.static:80", annotations=policy(
        "health_check: {type: tcp, interval_ms: 30, timeout_ms: 200, unhealthy_threshold: 2}"))))
    wait_until(lambda: "unhealthy" in gateway.errors(), what="the verdict")
    assert '"healthy": false' in gateway.admin("/clusters")


def test_outlier_ejection(start_gateway, start_backend):
    bad = start_backend(lambda r, c: simple_response(b"bad", "500 X"))
    good = start_backend(lambda r, c: simple_response(b"good"))
    gateway = start_gateway(documents(bridge(be=[bad.address, good.address]), ingress("all", "be.static:80", annotations=policy(
        "outlier_detection: {consecutive_5xx: 3, base_ejection_ms: 600, max_ejection_percent: 50}"))))
    with gateway.connect() as client:
        def ask():
            client.request()
            return client.response().status
        while len(bad.requests) < 3:
            ask()
        assert [ask() for _ in range(30)] == [200] * 30
        wait_until(lambda: ask() == 500, 5, "the end of the ejection")


def test_outlier_ejection_is_shared_by_workers(start_gateway, start_backend):
    """What one worker has found out the other knows before it has sent a request."""
    bad = start_backend(lambda r, c: simple_response(b"bad", "500 X"))
    good = start_backend(lambda r, c: simple_response(b"good"))
    gateway = start_gateway(documents(bridge(be=[bad.address, good.address]), ingress("all", "be.static:80", annotations=policy(
        "load_balancing: round_robin\noutlier_detection: {consecutive_5xx: 3, base_ejection_ms: 1500, max_ejection_percent: 50}"))),
        workers=2)
    with gateway.connect() as client:
        while len(bad.requests) < 3:
            client.request()
            client.response()
    ejected = {e["address"]: e["ejected_by_workers"] for c in json.loads(gateway.admin("/clusters")) for e in c["endpoints"]}
    assert ejected[bad.address] == 2 and ejected[good.address] == 0
    # Connections are spread over both workers.
    assert {gateway.get("/").status for _ in range(40)} == {200}
    assert len(bad.requests) == 3
    wait_until(lambda: gateway.get("/").status == 500, 5, "the end of the ejection")


def test_circuit_breaker(start_gateway, start_backend):
    release = threading.Event()
    backend = start_backend(lambda r, c: release.wait(10) and simple_response())
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(
        "circuit_breaker: {max_requests: 2}"))))
    clients = [gateway.connect() for _ in range(2)]
    for client in clients:
        client.request()
    wait_until(lambda: len(backend.requests) == 2)
    response = gateway.get("/")
    assert response.status == 503 and response.body.endswith(b"reset reason: overflow")
    assert gateway.log_lines(1)[0]["response_flags"] == "UO"
    release.set()
    assert [client.response().status for client in clients] == [200, 200]


def test_retry_budget(start_gateway, start_backend):
    """While one retry is under way, others that fail are answered: retries must not double the load of a sick service."""
    def handler(request, connection):
        time.sleep(0.3)
        return simple_response(b"sick", "503 Service Unavailable")
    counts = {}
    for budget in (1, 1000):
        backend = start_backend(handler)
        gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(
            f"circuit_breaker: {{max_retries: {budget}}}"))))
        clients = [gateway.connect() for _ in range(10)]
        for client in clients:
            client.request()
        assert [client.response().status for client in clients] == [503] * 10
        counts[budget] = len(backend.requests)
    assert 11 <= counts[1] <= 14 and counts[1000] >= 20, counts


def test_connection_limit_queues(start_gateway, start_backend):
    backend = start_backend(lambda r, c: time.sleep(0.05) or simple_response())
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(
        "circuit_breaker: {max_connections: 1}"))))
    clients = [gateway.connect() for _ in range(5)]
    for client in clients:
        client.request()
    assert [client.response().status for client in clients] == [200] * 5
    assert len(backend.connections) == 1


def test_maglev(start_gateway, start_backend):
    backends = [start_backend(lambda r, c, i=i: simple_response(str(i).encode())) for i in range(4)]
    gateway = start_gateway(documents(bridge(be=[b.address for b in backends]), ingress("all", "be.static:80", annotations={
        "higress.io/upstream-hash-by": "$arg_user", **policy("load_balancing: maglev")})))
    chosen = {}
    for _ in range(2):
        for user in range(60):
            body = gateway.get(f"/?user={user}").body
            assert chosen.setdefault(user, body) == body
    assert len(set(chosen.values())) == 4


def test_panic_threshold(start_gateway, start_backend):
    backend = start_backend(lambda r, c: simple_response(b"", "500 X") if r.path == "/healthz" else simple_response())
    check = "health_check: {type: http, path: /healthz, interval_ms: 30, unhealthy_threshold: 1}"
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(check))))
    wait_until(lambda: gateway.get("/").status == 503, what="no healthy endpoint")
    gateway.apply("all.yaml", documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(
        check + "\npanic_threshold_percent: 50"))))
    wait_until(lambda: gateway.get("/").status == 200, what="panic mode")


def test_proxy_protocol_to_the_upstream(start_gateway, start_backend):
    heads = []

    def raw(connection):
        heads.append(connection.read_until(b"\r\n"))
        connection.read_until(b"\r\n\r\n")
        connection.send(simple_response())
    backend = start_backend(raw=raw)
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy("send_proxy_protocol: 1"))))
    assert gateway.get("/").status == 200
    assert heads[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert heads[0].endswith(str(gateway.http_port).encode())


def test_bad_policy_is_reported_and_dropped(start_gateway, start_backend):
    backend = start_backend()
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=policy(
        "circuit_breaker: {max_reqests: 2}"))))
    assert gateway.get("/").status == 200
    assert "max_reqests" in gateway.errors() and "max_requests" in gateway.errors()


def test_per_try_timeout_ends_with_the_response_head(proxy):
    """It bounds the wait for an answer, not a long answer."""
    def handler(request, connection):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        time.sleep(1.5)
        return b"1\r\nb\r\n0\r\n\r\n"
    gateway, _ = proxy(handler, annotations={"nginx.ingress.kubernetes.io/proxy-next-upstream-timeout": "1"})
    assert gateway.get("/").body == b"ab"


def test_per_try_timeout(proxy):
    release = threading.Event()
    gateway, backend = proxy(lambda r, c: release.wait(10) and None, annotations={
        "nginx.ingress.kubernetes.io/proxy-next-upstream-timeout": "1", "nginx.ingress.kubernetes.io/proxy-next-upstream-tries": "1",
        "nginx.ingress.kubernetes.io/proxy-next-upstream": "error timeout"})
    assert gateway.get("/").status == 504
    assert len(backend.requests) == 2
    release.set()
