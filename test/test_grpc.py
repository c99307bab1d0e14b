"""gRPC through the gateway with grpcio on both sides: calls of all four kinds, deadlines, cancellation, the mapping of the
gateway's own errors, health checks; upstreams from a Kubernetes Service and from an McpBridge registry."""

import concurrent.futures
import json
import os
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from harness import bridge, documents, free_port, ingress, wait_until
from peers import memory, metrics, nothing_left, service, service_ingress, sha, tls_secret

SERVICE = "test.Echo"


class Servicer(grpc.GenericRpcHandler):
    """Methods on raw bytes."""

    def __init__(self):
        self.cancelled = threading.Event()
        self.metadata = {}

    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        self.metadata = dict(details.invocation_metadata)
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Big": grpc.unary_unary_rpc_method_handler(lambda request, context: os.urandom(16) + request),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Sum": grpc.stream_unary_rpc_method_handler(lambda requests, context: str(sum(map(int, requests))).encode()),
            "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }
        return handlers.get(name)

    def unary(self, request, context):
        context.send_initial_metadata((("x-initial", "i"), ("x-bin-bin", b"\0\1\xff")))
        context.set_trailing_metadata((("x-trailing", "t"), ("x-t-bin", b"\xfe\0")))
        return b"got " + request

    def count(self, request, context):
        for i in range(int(request)):
            yield str(i).encode()

    def echo(self, requests, context):
        for request in requests:
            yield request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode[request.decode()], "wörks not: 100%\nreally")

    def fail_late(self, request, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "late")

    def wait(self, request, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(10)
        return b"late"

    def endless(self, request, context):
        context.add_callback(self.cancelled.set)
        while context.is_active():
            yield b"x" * 1000


@pytest.fixture
def backend():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=[
        ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    servicer = Servicer()
    server.add_generic_rpc_handlers((servicer,))
    servicer.health = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer.health, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer
    server.stop(0).wait(5)


def manifests(port, upstream, certificate, annotations=None):
    if upstream == "kubernetes":
        return documents(service("be", 9000, port, app_protocol="grpc"), tls_secret("cert", certificate, namespace="default"),
                         service_ingress("all", "be", 9000, host="test.com", secret="cert", annotations=annotations))
    return documents(bridge(be={"type": "static", "domain": f"127.0.0.1:{port}", "port": 80, "protocol": "grpc"}),
                     tls_secret("cert", certificate),
                     ingress("all", "be.static:80", host="test.com", tls_secret="cert", annotations=annotations))


@pytest.fixture(params=["clear", "tls"])
def transport(request):
    return request.param


class Caller:
    def __init__(self, gateway, authority=None, host="test.com"):
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1),
                   ("grpc.enable_retries", 0)]
        if authority is None:
            self.channel = grpc.insecure_channel(f"127.0.0.1:{gateway.http_port}",
                                                 options=[*options, ("grpc.default_authority", host)])
        else:
            credentials = grpc.ssl_channel_credentials(authority.pem.encode())
            self.channel = grpc.secure_channel(f"127.0.0.1:{gateway.https_port}", credentials,
                                               options=[*options, ("grpc.ssl_target_name_override", host)])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def unary(self, method, request, **options):
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, timeout=options.pop("timeout", 10), **options)

    def failure(self, method, request=b"", **options):
        with pytest.raises(grpc.RpcError) as error:
            self.unary(method, request, **options)
        return error.value.code(), error.value.details()


@pytest.fixture
def caller(start_gateway, backend, authority, certificate, transport):
    """A gateway before `backend`, and a channel through it."""
    gateway = start_gateway(manifests(backend.port, "bridge", certificate))
    with Caller(gateway, authority if transport == "tls" else None) as caller:
        caller.gateway = gateway
        grpc.channel_ready_future(caller.channel).result(10)
        yield caller


@pytest.mark.parametrize("upstream", ["kubernetes", "bridge"])
def test_all_four_kinds(start_gateway, backend, authority, certificate, transport, upstream):
    gateway = start_gateway(manifests(backend.port, upstream, certificate))
    with nothing_left(gateway):
        with Caller(gateway, authority if transport == "tls" else None) as caller:
            assert caller.unary("Unary", b"this") == b"got this"
            channel = caller.channel
            assert list(channel.unary_stream(f"/{SERVICE}/Count")(b"100", timeout=10)) == [str(i).encode() for i in range(100)]
            numbers = [str(i).encode() for i in range(100)]
            assert channel.stream_unary(f"/{SERVICE}/Sum")(iter(numbers), timeout=10) == b"4950"
            assert list(channel.stream_stream(f"/{SERVICE}/Echo")(iter(numbers), timeout=10)) == numbers
    line = gateway.log_lines(1)[0]
    assert line["path"] == "/test.Echo/Unary" and line["response_code"] == "200" and line["response_flags"] == "-"


def test_streams_are_not_held_back(caller):
    """Each message of a bidirectional stream is answered before the next is sent."""
    sent = []
    turn = threading.Semaphore(1)

    def requests():
        for i in range(20):
            assert turn.acquire(timeout=5)
            sent.append(i)
            yield str(i).encode()
    for i, answer in enumerate(caller.channel.stream_stream(f"/{SERVICE}/Echo")(requests(), timeout=20)):
        assert answer == str(i).encode() and sent == list(range(i + 1))
        turn.release()


def test_metadata_and_trailers(caller, backend):
    response, call = caller.channel.unary_unary(f"/{SERVICE}/Unary").with_call(
        b"x", timeout=10, metadata=(("x-one", "1"), ("x-data-bin", b"\0\xff")))
    assert response == b"got x"
    assert backend.metadata["x-one"] == "1" and backend.metadata["x-data-bin"] == b"\0\xff"
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert initial["x-initial"] == "i" and initial["x-bin-bin"] == b"\0\1\xff"
    assert trailing["x-trailing"] == "t" and trailing["x-t-bin"] == b"\xfe\0"


@pytest.mark.parametrize("status", [s.name for s in grpc.StatusCode if s is not grpc.StatusCode.OK])
def test_error_statuses(start_gateway, backend, certificate, status):
    gateway = start_gateway(manifests(backend.port, "bridge", certificate))
    with Caller(gateway) as caller:
        assert caller.failure("Fail", status.encode()) == (grpc.StatusCode[status], "wörks not: 100%\nreally")


def test_error_after_messages(caller):
    call = caller.channel.unary_stream(f"/{SERVICE}/FailLate")(b"", timeout=10)
    assert next(call) == b"one"
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.DATA_LOSS, "late")


def test_unknown_method_is_the_backends_answer(caller):
    code, details = caller.failure("Nothing")
    assert code == grpc.StatusCode.UNIMPLEMENTED and details == "Method not found!"


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 20 << 20])
def test_large_messages(caller, size):
    body = os.urandom(size)
    answer = caller.unary("Big", body, timeout=30)
    assert len(answer) == size + 16 and sha(answer[16:]) == sha(body)


def test_client_deadline_cancels_the_upstream(caller, backend):
    with nothing_left(caller.gateway):
        started = time.monotonic()
        assert caller.failure("Wait", timeout=0.5)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 3
        assert backend.cancelled.wait(5)


def test_the_gateway_enforces_grpc_timeout(start_gateway, backend, certificate):
    """A client that sends grpc-timeout and does not watch it itself."""
    from peers import H2Client
    gateway = start_gateway(manifests(backend.port, "bridge", certificate))
    with nothing_left(gateway):
        with H2Client(gateway.http_port) as client:
            started = time.monotonic()
            message = client.response(client.request("POST", f"/{SERVICE}/Wait", body=b"\0\0\0\0\0", headers=[
                ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "500m")]))
            assert 0.4 < time.monotonic() - started < 3
            status = message.trailer("grpc-status") or message.header("grpc-status")
            assert (message.status, status) == (200, "4")  # DEADLINE_EXCEEDED, by whoever noticed first
        assert backend.cancelled.wait(5)
    assert backend.metadata.get("x-envoy-expected-rq-timeout-ms") == "500"


def test_cancellation(caller, backend):
    with nothing_left(caller.gateway):
        call = caller.channel.unary_stream(f"/{SERVICE}/Endless")(b"", timeout=30)
        for _ in range(10):
            next(call)
        call.cancel()
        assert backend.cancelled.wait(5)


def test_slow_receiver_bounds_memory(caller, backend):
    with nothing_left(caller.gateway):
        call = caller.channel.unary_stream(f"/{SERVICE}/Endless")(b"", timeout=60)
        next(call)
        time.sleep(1)  # nothing is taken; the windows fill
        assert memory(caller.gateway)["block_bytes_in_use"] < 4 << 20
        for _ in range(5000):
            next(call)
        call.cancel()


def test_many_calls_at_once(caller):
    with nothing_left(caller.gateway):
        futures = [caller.channel.unary_unary(f"/{SERVICE}/Unary").future(str(i).encode(), timeout=30) for i in range(300)]
        assert [f.result() for f in futures] == [f"got {i}".encode() for i in range(300)]
    assert metrics(caller.gateway)["sluice_exchanges_active"] == 0


# --- the gateway's own errors


@pytest.mark.parametrize("case,code,text", [
    ("no route", "UNIMPLEMENTED", ""),
    ("refused", "UNAVAILABLE", "connection failure"),
    ("no endpoint", "UNAVAILABLE", "no healthy upstream"),
    ("reset", "UNAVAILABLE", "connection termination"),
    ("timeout", "UNAVAILABLE", "upstream request timeout"),
])
def test_errors_of_the_gateway(start_gateway, start_backend, backend, certificate, authority, transport, case, code, text):
    port = backend.port
    annotations = None
    if case == "refused":
        port = free_port()
    elif case == "reset":
        port = start_backend(raw=lambda c: c.socket.recv(10)).port
    elif case == "timeout":
        annotations = {"higress.io/timeout": "1"}
    if case == "no endpoint":
        empty = service("be", 9000, 1, addresses=(), app_protocol="grpc")
        text_ = documents(empty, tls_secret("cert", certificate, namespace="default"),
                          service_ingress("all", "be", 9000, host="test.com", secret="cert"))
    else:
        text_ = manifests(port, "bridge", certificate, annotations)
        if case == "no route":
            text_ = text_.replace('"path": "/"', '"path": "/elsewhere"')
    gateway = start_gateway(text_)
    with Caller(gateway, authority if transport == "tls" else None) as caller:
        found, details = caller.failure("Wait" if case == "timeout" else "Unary")
    assert found == grpc.StatusCode[code] and text in details, details


def test_overflow_is_unavailable(start_gateway, backend, certificate):
    gateway = start_gateway(manifests(backend.port, "bridge", certificate, {
        "sluice.io/upstream": json.dumps({"circuit_breaker": {"max_requests": 1}})}))
    with Caller(gateway) as caller:
        waiting = caller.channel.unary_unary(f"/{SERVICE}/Wait").future(b"", timeout=10)
        wait_until(lambda: memory(gateway)["exchanges"] == 1)
        code, details = caller.failure("Unary")
        assert code == grpc.StatusCode.UNAVAILABLE and "overflow" in details
        backend.cancelled.set()
        assert waiting.result() == b"late"


# --- the health service


def test_health_service_through_the_gateway(caller, backend):
    stub = health_pb2_grpc.HealthStub(caller.channel)
    backend.health.set("one", health_pb2.HealthCheckResponse.NOT_SERVING)
    check = health_pb2.HealthCheckRequest
    assert stub.Check(check(service="one"), timeout=5).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(check(service="unknown"), timeout=5)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(check(service="one"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    backend.health.set("one", health_pb2.HealthCheckResponse.SERVING)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_backend_restart_is_survived(start_gateway, certificate):
    """The server goes away gracefully (GOAWAY) while another takes its port and calls go on. A stopping grpcio server answers
    some calls CANCELLED, with or without a gateway; the gateway adds no failure of its own."""
    port = free_port()

    def serve():
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 1)])
        server.add_generic_rpc_handlers((Servicer(),))
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        return server
    server = serve()
    gateway = start_gateway(manifests(port, "bridge", certificate))
    stop = threading.Event()
    results = []

    def calls():
        with Caller(gateway) as caller:
            while not stop.is_set():
                try:
                    results.append(caller.unary("Unary", b"x"))
                except grpc.RpcError as error:
                    results.append(error)
    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        count = len(results)
        wait_until(lambda: len(results) > count + 50)
        following = serve()  # both listen for a moment
        server.stop(5).wait()
        server = following
    stop.set()
    for thread in threads:
        thread.join()
    server.stop(0)
    failed = [r for r in results if r != b"got x"]
    assert [r for r in failed if r.code() != grpc.StatusCode.CANCELLED] == [] and len(failed) < len(results) / 10
    lines = gateway.log_lines(len(results))
    assert {(line["response_code"], line["response_flags"]) for line in lines} == {("200", "-")}


def test_active_health_check(start_gateway, backend, certificate):
    """The gateway's own grpc.health.v1 probes decide whether the endpoint is used."""
    check = {"sluice.io/upstream": f"health_check: {{type: grpc, service: {SERVICE}, interval_ms: 30, unhealthy_threshold: 2}}"}
    backend.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    gateway = start_gateway(manifests(backend.port, "bridge", certificate, annotations=check))
    with Caller(gateway) as caller:
        assert caller.unary("Unary", b"x") == b"got x"
        for status in (health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN):
            backend.health.set(SERVICE, status)
            wait_until(lambda: '"healthy": false' in gateway.admin("/clusters"), what="the verdict")
            assert caller.failure("Unary") == (grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
            backend.health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
            wait_until(lambda: '"healthy": false' not in gateway.admin("/clusters"), what="recovery")
            assert caller.unary("Unary", b"x") == b"got x"
