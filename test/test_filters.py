"""The native filters in the real binary, attached by annotations."""

import gzip
import subprocess
import threading
import time
import zlib

import pytest

from harness import bridge, documents, ingress, simple_response, wait_until

GZIP = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"higress-config","namespace":"higress-system"},"data":{"higress":"%s"}}'


@pytest.fixture
def annotated(start_gateway, start_backend):
    def start(annotations, handler=None, path="/", path_type="Prefix", extra=""):
        backend = start_backend(handler)
        manifests = [bridge(be=backend.address),
                     ingress("all", "be.static:80", path=path, path_type=path_type, annotations=annotations)]
        return start_gateway(documents(*manifests, *([extra] if extra else []))), backend
    return start


def filters(text):
    return {"sluice.io/filters": text}


def test_header_control(annotated):
    gateway, backend = annotated({
        "higress.io/request-header-control-add": "x-added one\nx-both two",
        "higress.io/request-header-control-update": "x-set new",
        "higress.io/request-header-control-remove": "x-gone",
        "higress.io/response-header-control-add": "x-answer yes",
        "higress.io/response-header-control-remove": "x-internal"},
        lambda r, c: simple_response(headers=["X-Internal: 1"]))
    response = gateway.get("/", headers={"X-Set": "old", "X-Gone": "1", "X-Both": "1"})
    request = backend.requests[0]
    assert request.header("x-added") == "one" and request.header("x-set") == "new" and request.header("x-gone") is None
    assert request.all("x-both") == ["1", "two"]
    assert response.header("x-answer") == "yes" and response.header("x-internal") is None


def test_rewrite(annotated):
    gateway, backend = annotated({"higress.io/rewrite-path": "/new", "nginx.ingress.kubernetes.io/upstream-vhost": "inner.example"},
                                 path="/old")
    assert gateway.get("/old/x?q=1").status == 200
    request = backend.requests[0]
    assert request.path == "/new/x?q=1" and request.header("host") == "inner.example"
    assert request.header("x-envoy-original-path") == "/old/x?q=1" and request.header("x-envoy-original-host") == "test.com"
    line = gateway.log_lines()[0]
    assert line["path"] == "/old/x?q=1" and line["authority"] == "test.com"


def test_redirects(annotated):
    gateway, _ = annotated({"nginx.ingress.kubernetes.io/temporal-redirect": "https://elsewhere.example/a"})
    response = gateway.get("/x?q=1")
    assert response.status == 302 and response.header("location") == "https://elsewhere.example/a?q=1"


def test_ssl_redirect(annotated):
    gateway, backend = annotated({"nginx.ingress.kubernetes.io/ssl-redirect": "true"})
    response = gateway.get("/x?q=1")
    assert response.status == 308 and response.header("location") == "https://test.com/x?q=1"
    assert not backend.requests


def test_app_root(annotated):
    gateway, _ = annotated({"nginx.ingress.kubernetes.io/app-root": "/app"})
    response = gateway.get("/")
    assert response.status == 302 and response.header("location").endswith("/app")
    assert gateway.get("/app").status == 200


def test_cors(annotated):
    gateway, backend = annotated({"nginx.ingress.kubernetes.io/enable-cors": "true",
                                  "nginx.ingress.kubernetes.io/cors-allow-origin": "https://good.example"})
    preflight = gateway.get("/", method="OPTIONS", headers={"Origin": "https://good.example", "Access-Control-Request-Method": "PUT"})
    assert preflight.status == 200 and preflight.header("access-control-allow-origin") == "https://good.example"
    assert "PUT" in preflight.header("access-control-allow-methods") and not backend.requests
    assert gateway.get("/", headers={"Origin": "https://good.example"}).header("access-control-allow-origin") == "https://good.example"
    assert gateway.get("/", headers={"Origin": "https://bad.example"}).header("access-control-allow-origin") is None
    assert len(backend.requests) == 2


def test_local_rate_limit_and_cors_headers_on_the_reply(annotated):
    gateway, backend = annotated({"higress.io/route-limit-rpm": "2", "higress.io/route-limit-burst-multiplier": "1",
                                  "nginx.ingress.kubernetes.io/enable-cors": "true"})
    statuses = [gateway.get("/").status for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    response = gateway.get("/", headers={"Origin": "https://a.example"})
    assert response.body == b"local_rate_limited" and response.header("x-local-rate-limit") == "true"
    assert response.header("access-control-allow-origin") == "https://a.example"
    assert gateway.log_lines(5)[4]["response_flags"] == "RL"
    # A change elsewhere in the Ingress keeps the bucket.
    gateway.apply("all.yaml", documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations={
        "higress.io/route-limit-rpm": "2", "higress.io/route-limit-burst-multiplier": "1", "higress.io/timeout": "7"})))
    assert gateway.get("/").status == 429


def test_fault_delay_and_abort(annotated):
    gateway, backend = annotated(filters("- name: fault\n  config: {delay: {fixed_ms: 300}, abort: {status: 418}}"))
    started = time.monotonic()
    response = gateway.get("/")
    assert response.status == 418 and response.body == b"fault filter abort" and time.monotonic() - started > 0.28
    assert not backend.requests
    assert gateway.log_lines()[0]["response_flags"] == "FI,DI"


def test_fault_delay_holds_the_body(annotated):
    gateway, backend = annotated(filters("- name: fault\n  config: {delay: {fixed_ms: 200}}"), lambda r, c: simple_response(r.body))
    body = b"z" * 500_000
    with gateway.connect() as client:
        threading.Thread(target=client.request, args=("POST", "/"), kwargs={"body": body}, daemon=True).start()
        assert client.response().body == body


def test_client_leaves_during_a_delay(annotated):
    gateway, backend = annotated(filters("- name: fault\n  config: {delay: {fixed_ms: 1000}}"))
    client = gateway.connect()
    client.request()
    client.socket.close()
    wait_until(lambda: "sluice_exchanges_active 0" in gateway.admin("/stats/prometheus"), 10, "the end of the exchange")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_compression(annotated, encoding):
    text = b"all work and no play makes a dull gateway. " * 2000
    gateway, _ = annotated(filters("- name: compression\n  config: {}"),
                           lambda r, c: simple_response(text, headers=["Content-Type: text/html"]))
    response = gateway.get("/", headers={"Accept-Encoding": encoding})
    assert response.header("content-encoding") == encoding and "accept-encoding" in response.header("vary").lower()
    assert len(response.body) < len(text) / 10
    if encoding == "gzip":
        assert gzip.decompress(response.body) == text
    elif encoding == "zstd":
        assert subprocess.run(["zstd", "-dc"], input=response.body, capture_output=True, check=True).stdout == text
    plain = gateway.get("/")
    assert plain.header("content-encoding") is None and plain.body == text


def test_gzip_of_higress_config(annotated):
    text = b"hello " * 1000
    gateway, _ = annotated({}, lambda r, c: simple_response(text, headers=["Content-Type: text/html"]),
                           extra=GZIP % "gzip: {enable: true, minContentLength: 100}")
    response = gateway.get("/", headers={"Accept-Encoding": "gzip, br"})
    assert response.header("content-encoding") == "gzip" and zlib.decompress(response.body, 31) == text


def test_unknown_filter_is_reported(annotated):
    gateway, _ = annotated(filters("- name: no-such\n  config: {}"))
    assert gateway.get("/").status == 200
    assert "no-such" in gateway.errors() or "no native plugin" in gateway.errors()
