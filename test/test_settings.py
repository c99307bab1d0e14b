"""The ConfigMap `higress-config`, applied live: key `mesh` (the rest is with what it configures)."""

import json
import socket
import ssl
import time

import pytest

from harness import bridge, documents, ingress, simple_response, wait_until
from peers import tls_secret


def settings(mesh=None, **higress):
    data = {"higress": json.dumps(higress)} if higress else {}
    if mesh is not None:
        data["mesh"] = json.dumps(mesh)
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "higress-config", "namespace": "higress-system"},
                       "data": data}) + "\n"


@pytest.fixture
def gateway(start_gateway, start_backend, certificate):
    backend = start_backend(lambda r, c: simple_response(
        status="503 Service Unavailable" if r.path == "/503" else "200 OK"))
    gateway = start_gateway({"bridge.yaml": bridge(be=backend.address), "route.yaml": ingress("all", "be.static:80"),
                             "tls.yaml": documents(tls_secret("cert", certificate), ingress(
                                 "tls", "be.static:80", host="test.com", tls_secret="cert")),
                             "settings.yaml": settings(mesh={})})
    gateway.backend = backend
    return gateway


def test_trusted_proxies(gateway):
    def client_told(*headers):
        assert gateway.get(headers=headers).status == 200
        return gateway.backend.requests[-1].header("x-envoy-external-address")
    chain = ("X-Forwarded-For", "198.51.100.7, 203.0.113.9")
    assert client_told(chain) is None  # the peer is on loopback
    gateway.apply("settings.yaml", settings(mesh={"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 1}}}))
    assert client_told(chain) == "203.0.113.9"
    gateway.apply("settings.yaml", settings(mesh={"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 2}}}))
    assert client_told(chain) == "198.51.100.7"
    gateway.apply("settings.yaml", settings(mesh={}))
    assert client_told(chain) is None


def test_access_log(gateway):
    gateway.apply("settings.yaml", settings(mesh={"accessLogFormat": '{"p":"%REQ(:PATH)%","s":"%RESPONSE_CODE%"}\n'}))
    assert gateway.get("/one").status == 200
    wait_until(lambda: {"p": "/one", "s": "200"} in gateway.log_lines(0), 3, "a line of the new format")
    # Off, and on again.
    gateway.apply("settings.yaml", settings(mesh={"accessLogFile": ""}))
    assert gateway.get("/quiet").status == 200
    gateway.apply("settings.yaml", settings(mesh={"accessLogFile": "/dev/stdout"}))
    assert gateway.get("/loud").status == 200
    lines = wait_until(lambda: [l for l in gateway.log_lines(0) if l.get("path") == "/loud"], 3, "the log again")
    assert lines and not [l for l in gateway.log_lines(0) if "/quiet" in json.dumps(l)]
    # Of one host only what went wrong.
    gateway.apply("settings.yaml", settings(mesh={"mseIngressGlobalConfig": {
        "accessLogFilters": [{"host": r"few\..*", "sampleRate": 0}]}}))
    assert gateway.get("/a", host="few.com").status == 200
    assert gateway.get("/503", host="few.com").status == 503
    assert gateway.get("/b", host="many.com").status == 200
    wait_until(lambda: [l for l in gateway.log_lines(0) if l.get("path") == "/b"], 3, "the log of the other host")
    paths = [l.get("path") for l in gateway.log_lines(0)]
    assert "/503" in paths and "/a" not in paths


def test_tls(gateway, authority):
    def version(maximum=None, alpn=("h2", "http/1.1")):
        context = authority.client_context(alpn=list(alpn), maximum=maximum)
        with socket.create_connection(("127.0.0.1", gateway.https_port), 5) as plain:
            with context.wrap_socket(plain, server_hostname="test.com") as s:
                return s.version(), s.selected_alpn_protocol()
    assert version() == ("TLSv1.3", "h2")
    assert version(ssl.TLSVersion.TLSv1_2)[0] == "TLSv1.2"
    gateway.apply("settings.yaml", settings(mesh={"mseIngressGlobalConfig": {"tlsMinProtocolVersion": "TLSV1_3"},
                                                  "defaultConfig": {"disableAlpnH2": True}}))
    assert version() == ("TLSv1.3", "http/1.1")
    with pytest.raises(ssl.SSLError):
        version(ssl.TLSVersion.TLSv1_2)
    gateway.apply("settings.yaml", settings(mesh={"mseIngressGlobalConfig": {
        "tlsMaxProtocolVersion": "TLSV1_2", "tlsCipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]}}))
    assert version()[0] == "TLSv1.2"


def test_proxy_protocol(gateway):
    gateway.apply("settings.yaml", settings(mesh={"mseIngressGlobalConfig": {"enableProxyProtocol": True}}))
    with gateway.connect() as connection:
        connection.send(b"PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\n")
        connection.request()
        assert connection.response().status == 200
    assert gateway.backend.requests[-1].header("x-forwarded-for") == "198.51.100.7"
    assert gateway.get().status == 200  # optional per connection


def test_retries(gateway):
    before = len(gateway.backend.requests)
    assert gateway.get("/503").status == 503
    assert len(gateway.backend.requests) - before == 3  # the built-in policy: two more tries for a 503
    gateway.apply("settings.yaml", settings(mesh={"defaultHttpRetryPolicy": {"attempts": 0}}))
    before = len(gateway.backend.requests)
    assert gateway.get("/503").status == 503
    assert len(gateway.backend.requests) - before == 1
    gateway.apply("settings.yaml", settings(mesh={"defaultHttpRetryPolicy": {
        "attempts": 1, "perTryTimeout": "1.5s", "retryOn": "gateway-error,503"}}))
    before = len(gateway.backend.requests)
    assert gateway.get("/503").status == 503
    assert len(gateway.backend.requests) - before == 2


@pytest.mark.parametrize("mesh, field, message", [
    ({"accessLogFormat": "%NO_SUCH%"}, "accessLogFormat", "NO_SUCH"),
    ({"defaultHttpRetryPolicy": {"retryOn": "sometimes"}}, "retryOn", "is not a condition"),
    ({"defaultHttpRetryPolicy": {"perTryTimeout": "soon"}}, "perTryTimeout", "is not a duration"),
    ({"mseIngressGlobalConfig": {"accessLogFilters": [{"host": "("}]}}, "accessLogFilters[0].host", "is not a regular expression"),
    ({"mseIngressGlobalConfig": {"tlsMinProtocolVersion": "TLSV1_3", "tlsMaxProtocolVersion": "TLSV1_2"}},
     "tlsMinProtocolVersion", "is above"),
    ({"defaultConfig": {"gatewayTopology": {"numTrustedProxies": -1}}}, "numTrustedProxies", "-1"),
])
def test_bad_settings_keep_the_last(gateway, mesh, field, message):
    gateway.apply("settings.yaml", settings(mesh={"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 1}}}))
    gateway.write("settings.yaml", settings(mesh=mesh))
    wait_until(lambda: field in gateway.errors() and message in gateway.errors(), 5, f"'{message}'")
    assert gateway.get(headers=[("X-Forwarded-For", "203.0.113.9")]).status == 200
    assert gateway.backend.requests[-1].header("x-envoy-external-address") == "203.0.113.9"
