"""Tracing: what spans say, how contexts travel, and that a provider in trouble harms nobody."""

import base64
import json
import re
import time

import pytest

from harness import bridge, documents, ingress, simple_response, wait_until
from peers import metrics
from tracing_peers import Collector, OtlpReceiver, SkyWalkingReceiver, ZipkinServer, protobuf_fields

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def settings(**tracing):
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap",
                       "metadata": {"name": "higress-config", "namespace": "higress-system"},
                       "data": {"higress": json.dumps({"tracing": {"enable": True, **tracing}})}}) + "\n"


@pytest.fixture
def receiver():
    made = OtlpReceiver()
    yield made
    made.stop()


@pytest.fixture
def traced(start_gateway, start_backend):
    """traced(port, tracing) → (gateway, backend): spans go to `collector.static:80`, which is that port."""
    def start(port, tracing, *flags, handler=None):
        backend = start_backend(handler)
        gateway = start_gateway({"bridge.yaml": bridge(be=backend.address, collector=f"127.0.0.1:{port}"),
                                 "route.yaml": ingress("all", "be.static:80", host="traced.example", path="/a"),
                                 "settings.yaml": settings(**tracing)}, *flags)
        return gateway, backend
    return start


def otlp(**more):
    return {"opentelemetry": {"service": "collector.static", "port": 80, **more.pop("provider", {})}, **more}


def ask(gateway, headers=(), path="/a/b?c=d"):
    return gateway.get(path, host="traced.example", headers=headers)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_otlp(traced, receiver, protocol):
    port = receiver.grpc_port if protocol == "grpc" else receiver.http_port
    gateway, backend = traced(port, otlp(provider={"protocol": protocol}))
    before = time.time_ns()
    assert ask(gateway, [("User-Agent", "ua/1"), ("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=b,c=d")]).status == 200
    wait_until(lambda: len(receiver.spans) == 2, 5, "both spans")
    server, client = sorted(receiver.spans, key=lambda s: s["kind"])
    assert (server["kind"], client["kind"]) == (2, 3)
    assert server["trace_id"] == client["trace_id"] == TRACE
    assert server["parent"] == PARENT and client["parent"] == server["id"] and client["id"] != server["id"]
    assert server["state"] == "a=b,c=d"
    assert server["service"] == "higress-gateway.higress-system"
    assert server["name"] == "be.static:80/a*"
    assert before <= server["start"] <= client["start"] <= client["end"] <= server["end"] <= time.time_ns()
    tags = server["tags"]
    assert tags["http.url"] == "http://traced.example/a/b?c=d" and tags["http.method"] == "GET"
    assert tags["http.status_code"] == "200" and tags["user_agent"] == "ua/1" and tags["peer.address"] == "127.0.0.1"
    assert tags["upstream_cluster"] == "outbound|80||be.static" and not server["error"]
    assert client["tags"]["upstream_address"] == backend.address
    # The upstream continues the gateway's client span.
    assert backend.requests[0].header("traceparent") == f"00-{TRACE}-{client['id']}-01"
    assert backend.requests[0].header("tracestate") == "a=b,c=d"
    assert backend.requests[0].header("x-envoy-decorator-operation") == "be.static:80/a*"
    assert backend.requests[0].header("x-request-id") == tags["guid:x-request-id"]
    line, = gateway.log_lines()
    assert line["trace_id"] == TRACE
    assert metrics(gateway)['sluice_trace_spans_total{result="sent"}'] == 2


def test_collector_takes_what_is_sent(traced, tmp_path):
    """A collector of the field, over both protocols."""
    collector = Collector(tmp_path)
    try:
        for protocol, port in (("grpc", collector.grpc_port), ("http", collector.http_port)):
            gateway, _ = traced(port, otlp(provider={"protocol": protocol}))
            before = collector.text().count("spans")
            assert ask(gateway).status == 200
            wait_until(lambda: metrics(gateway)['sluice_trace_spans_total{result="sent"}'] == 2, 5, "the spans")
            wait_until(lambda: collector.text().count("spans") > before, 5, "the collector's word")
    finally:
        collector.stop()


def test_trace_begins_here(traced, receiver):
    gateway, backend = traced(receiver.grpc_port, otlp())
    for malformed in ((), [("traceparent", "00-0-0-01")], [("traceparent", f"00-{'0' * 32}-{PARENT}-01")],
                      [("traceparent", f"ff-{TRACE}-{PARENT}-01")], [("traceparent", f"00-{TRACE}-{PARENT}-01-x")],
                      [("traceparent", f"00-{TRACE.upper()}-{PARENT}-01")]):
        receiver.spans.clear()
        assert ask(gateway, malformed).status == 200
        wait_until(lambda: len(receiver.spans) == 2, 5, "both spans")
        server = next(s for s in receiver.spans if s["kind"] == 2)
        assert server["parent"] == "" and server["trace_id"] not in (TRACE, "0" * 32)
        assert re.fullmatch(f"00-{server['trace_id']}-[0-9a-f]{{16}}-01", backend.requests[-1].header("traceparent"))


def test_sampling(traced, receiver):
    gateway, backend = traced(receiver.grpc_port, otlp(sampling=0))
    assert ask(gateway).status == 200
    assert backend.requests[-1].header("traceparent").endswith("-00")
    assert ask(gateway, [("traceparent", f"00-{TRACE}-{PARENT}-00")]).status == 200
    assert backend.requests[-1].header("traceparent").startswith(f"00-{TRACE}-")
    assert backend.requests[-1].header("traceparent").endswith("-00")
    # What the caller decided counts.
    assert ask(gateway, [("traceparent", f"00-{TRACE}-{PARENT}-01")]).status == 200
    wait_until(lambda: len(receiver.spans) == 2, 5, "the sampled trace")
    gateway.apply("settings.yaml", settings(**otlp(sampling=30)))
    receiver.spans.clear()
    for _ in range(400):
        assert ask(gateway).status == 200
    # 120 are expected; five standard deviations either way.
    wait_until(lambda: sum(metrics(gateway)[f'sluice_trace_spans_total{{result="{r}"}}'] for r in ("sent",)) >= 2 + 2 * 74, 5)
    time.sleep(1.2)
    assert 74 <= len(receiver.spans) / 2 <= 166


def test_errors_and_requests_without_upstream(traced, receiver):
    gateway, _ = traced(receiver.grpc_port, otlp(), handler=lambda r, c: simple_response(status="503 Service Unavailable"))
    assert ask(gateway).status == 503
    assert ask(gateway, path="/nowhere").status == 404
    wait_until(lambda: len(receiver.spans) == 3, 5, "three spans")
    by_status = {s["tags"]["http.status_code"]: s for s in receiver.spans if s["kind"] == 2}
    assert by_status["503"]["error"] and not by_status["404"]["error"]
    assert by_status["404"]["tags"]["response_flags"] == "NR"


def test_provider_in_trouble(traced, receiver):
    """Requests go on; spans are counted as lost; when it is back, so are the spans. Off and on again, live."""
    gateway, backend = traced(receiver.grpc_port, otlp(timeout=300))
    receiver.fail = True
    for _ in range(3):
        assert ask(gateway).status == 200
    wait_until(lambda: metrics(gateway)['sluice_trace_spans_total{result="failed"}'] == 6, 6, "failed spans")
    receiver.fail = False
    assert ask(gateway).status == 200
    wait_until(lambda: len(receiver.spans) == 2, 5, "spans again")
    gateway.apply("bridge.yaml", bridge(be=backend.address, collector="127.0.0.1:1"))
    assert ask(gateway).status == 200
    wait_until(lambda: metrics(gateway)['sluice_trace_spans_total{result="failed"}'] == 8, 6, "spans for a closed port")
    gateway.apply("settings.yaml", settings().replace("true", "false"))
    assert "does not take spans: " in gateway.errors() and "takes spans again" in gateway.errors()
    assert ask(gateway).status == 200
    assert ask(gateway).status == 200 and not backend.requests[-1].header("traceparent")


def test_last_spans_leave_before_the_gateway(traced, receiver):
    gateway, _ = traced(receiver.grpc_port, otlp())
    assert ask(gateway).status == 200
    gateway.stop()
    assert len(receiver.spans) == 2


@pytest.mark.parametrize("tracing, message", [
    ({}, "one of zipkin, skywalking and opentelemetry must be given"),
    ({"zipkin": {"service": "a.b", "port": 1}, "skywalking": {"service": "a.b", "port": 1}}, "only one of zipkin"),
    ({"zipkin": {"port": 9411}}, "tracing.zipkin.service"),
    ({"zipkin": {"service": "a.b", "port": "http"}}, "must be a port from 1 to 65535"),
    (otlp(sampling=101), "must be a number from 0 to 100"),
    (otlp(timeout=0), "tracing.timeout"),
    (otlp(provider={"protocol": "udp"}), "grpc, http"),
])
def test_bad_settings_keep_the_last(traced, receiver, tracing, message):
    gateway, _ = traced(receiver.grpc_port, otlp())
    gateway.write("settings.yaml", settings(**tracing))
    wait_until(lambda: message in gateway.errors(), 5, f"'{message}'")
    assert ask(gateway).status == 200
    wait_until(lambda: len(receiver.spans) == 2, 5, "spans as before")


def test_zipkin(traced, tmp_path):
    zipkin = ZipkinServer(tmp_path)
    try:
        gateway, backend = traced(zipkin.port, {"zipkin": {"service": "collector.static", "port": "80"}})
        b3 = [("x-b3-traceid", TRACE), ("x-b3-spanid", PARENT), ("x-b3-sampled", "1")]
        assert ask(gateway, [*b3, ("User-Agent", 'quote" back\\ \xe9')]).status == 200
        wait_until(lambda: len(zipkin.trace(TRACE)) == 2, 10, "the trace")
        server, client = sorted(zipkin.trace(TRACE), key=lambda s: s["kind"], reverse=True)
        assert (server["kind"], client["kind"]) == ("SERVER", "CLIENT")
        assert server["parentId"] == PARENT and client["parentId"] == server["id"]
        assert server["name"] == "be.static:80/a*"
        assert server["localEndpoint"]["serviceName"] == "higress-gateway.higress-system"
        assert server["tags"]["user_agent"].startswith('quote" back\\ ')
        assert client["tags"]["upstream_address"] == backend.address
        got = backend.requests[-1]
        assert (got.header("x-b3-traceid"), got.header("x-b3-spanid")) == (TRACE, client["id"])
        assert got.header("x-b3-parentspanid") == server["id"] and got.header("x-b3-sampled") == "1"
        # `b3` in one field, 64 bits, decided against: passed on, not sent.
        short = TRACE[:16]
        assert ask(gateway, [("b3", f"{short}-{PARENT}-0")]).status == 200
        got = backend.requests[-1]
        assert got.header("x-b3-traceid") == short and got.header("x-b3-sampled") == "0" and not got.header("b3")
        assert ask(gateway, [("x-b3-flags", "1")]).status == 200
        begun = backend.requests[-1].header("x-b3-traceid")
        wait_until(lambda: len(zipkin.trace(begun)) == 2, 10, "the debug trace")
        assert zipkin.trace(short) == []
        assert metrics(gateway)['sluice_trace_spans_total{result="failed"}'] == 0
    finally:
        zipkin.stop()


def test_skywalking(traced):
    receiver = SkyWalkingReceiver()
    try:
        gateway, backend = traced(receiver.port, {"skywalking": {"service": "collector.static", "port": 80, "access_token": "s3cret"}})
        def encoded(text):
            return base64.b64encode(text.encode()).decode()
        sw8 = "-".join(["1", encoded("trace-1"), encoded("segment-1"), "3", encoded("caller"), encoded("caller-1"),
                        encoded("/from"), encoded("gw:80")])
        assert ask(gateway, [("sw8", sw8)]).status == 200
        wait_until(lambda: receiver.segments, 5, "a segment")
        assert receiver.tokens == ["s3cret"]
        fields = protobuf_fields(receiver.segments[0])
        segment = dict(fields)
        assert segment[1] == b"trace-1" and segment[4] == b"higress-gateway.higress-system"
        entry, exit_span = [protobuf_fields(value) for number, value in fields if number == 3]
        reference = dict(protobuf_fields(dict(entry)[5]))
        assert (reference[2], reference[3], reference[4], reference[5]) == (b"trace-1", b"segment-1", 3, b"caller")
        assert dict(entry)[8] == 0 and dict(exit_span)[8] == 1 and dict(exit_span)[2] == 0
        assert dict(exit_span)[7].decode() == backend.address
        sent = backend.requests[-1].header("sw8").split("-")
        assert sent[0] == "1" and base64.b64decode(sent[1]) == b"trace-1" and base64.b64decode(sent[2]) == segment[2]
        assert sent[3] == "1" and base64.b64decode(sent[5]).decode()
        assert "s3cret" not in gateway.admin("/config_dump")
    finally:
        receiver.stop()


def test_tunnels_are_traced(traced, receiver, start_backend):
    def echo(connection):
        connection.read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        connection.send(connection.read_exactly(4))
    gateway, _ = traced(receiver.grpc_port, otlp())
    backend = start_backend(raw=echo)
    gateway.apply("bridge.yaml", bridge(be=backend.address, collector=f"127.0.0.1:{receiver.grpc_port}"))
    with gateway.connect() as client:
        client.send(b"GET /a HTTP/1.1\r\nHost: traced.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        client.send(b"ping")
        assert client.read_exactly(4) == b"ping"
    wait_until(lambda: len(receiver.spans) == 2, 5, "the tunnel's spans")
    assert {s["tags"]["http.status_code"] for s in receiver.spans} == {"101"}


def test_annotations_of_a_route(traced, receiver):
    """enable-opentelemetry, opentelemetry-trust-incoming-span, opentelemetry-operation-name."""
    gateway, _ = traced(receiver.grpc_port, otlp())
    prefix = "nginx.ingress.kubernetes.io/"

    def apply(**annotations):
        gateway.apply("route.yaml", ingress("all", "be.static:80", host="traced.example", path="/a", annotations={
            prefix + key.replace("_", "-"): value for key, value in annotations.items()}))
    incoming = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
    apply(enable_opentelemetry="false")
    assert ask(gateway, incoming).status == 200
    apply(opentelemetry_trust_incoming_span="false", opentelemetry_operation_name="shop")
    assert ask(gateway, incoming).status == 200
    wait_until(lambda: len(receiver.spans) >= 2, 5, "both spans")
    server = next(s for s in receiver.spans if s["kind"] == 2)
    assert len(receiver.spans) == 2 and server["name"] == "shop"
    assert server["trace_id"] != TRACE and server["parent"] == ""
