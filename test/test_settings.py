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


def test_path_normalization(gateway):
    gateway.apply("route.yaml", documents(ingress("all", "be.static:80"), ingress("admin", "be.static:80", path="/admin", annotations={
        "higress.io/whitelist-source-range": "192.0.2.1"})))
    paths = ["//a//b?q=//", "/x/../admin", "/x%2F..%2Fadmin", "//admin", "/%5Cadmin"]
    for word, answers in {
            "NONE": [("//a//b?q=//", 200), ("/x/../admin", 200), ("/x%2F..%2Fadmin", 200), ("//admin", 200), ("/%5Cadmin", 200)],
            "BASE": [("//a//b?q=//", 200), ("/admin", 403), ("/x%2F..%2Fadmin", 200), ("//admin", 200), ("/%5Cadmin", 200)],
            "MERGE_SLASHES": [("/a/b?q=//", 200), ("/admin", 403), ("/x%2F..%2Fadmin", 200), ("/admin", 403), ("/%5Cadmin", 200)],
            "DECODE_AND_MERGE_SLASHES": [("/a/b?q=//", 200), ("/admin", 403), ("/admin", 403), ("/admin", 403), ("/admin", 403)],
    }.items():
        gateway.apply("settings.yaml", settings(mesh={"pathNormalization": {"normalization": word}}))
        for path, (forwarded, status) in zip(paths, answers):
            assert gateway.get(path, host="paths.com").status == status, (word, path)
            if status == 200:
                assert gateway.backend.requests[-1].path == forwarded, word
    # A wrong word is told, and the last good one stays.
    gateway.write("settings.yaml", settings(mesh={"pathNormalization": {"normalization": "SOME"}}))
    wait_until(lambda: "is not one of DEFAULT, NONE, BASE" in gateway.admin("/objects"), 5, "the error")
    assert gateway.get("//admin", host="paths.com").status == 403


def test_global_authentication_that_was_never_understood(start_gateway, start_backend):
    """At a start there is no last good version to go on with: what it should protect is closed, nothing else."""
    backend = start_backend()
    oracle = start_backend(lambda r, c: simple_response(status="401 Unauthorized"))
    wrong = settings(globalAuth={"url": "nonsense"}, downstream={"idleTimeout": 60})
    routes = documents(ingress("held", "be.static:80", host="held.com"),
                       ingress("free", "be.static:80", host="free.com", annotations={"higress.io/enable-global-auth": "false"}),
                       ingress("own", "be.static:80", host="own.com", annotations={"higress.io/auth-url": f"http://{oracle.address}/"}))
    gateway = start_gateway({"bridge.yaml": bridge(be=backend.address), "routes.yaml": routes, "settings.yaml": wrong})
    statuses = lambda: [gateway.get(host=host).status for host in ("held.com", "free.com", "own.com")]  # noqa: E731
    assert statuses() == [503, 200, 401]
    told = gateway.admin("/objects")
    assert "is not an http or https URL" in told and "routes that it holds for answer 503 until one is" in told
    assert "the globalAuth of ConfigMap higress-system/higress-config can't be read" in told
    # A text that is no YAML: whether it means to protect is told by the word alone.
    def raw(text):
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "higress-config", "namespace": "higress-system"}, "data": {"higress": text}}) + "\n"
    for text, answers in ((raw("globalAuth: {url: [\n"), [503, 200, 401]), (raw("downstream: [\n"), [200, 200, 401]),
                          (wrong, [503, 200, 401]), (settings(globalAuth={"url": f"http://{oracle.address}/"}), [401, 200, 401])):
        gateway.write("settings.yaml", text)
        wait_until(lambda: statuses() == answers, 5, text)  # noqa: B023
    # From now on there is a last good one.
    gateway.write("settings.yaml", wrong)
    wait_until(lambda: "is not an http or https URL" in gateway.admin("/objects"), 5, "the error")
    assert statuses() == [401, 200, 401]
    gateway.stop()
    gateway.start()
    assert statuses() == [503, 200, 401]
    (gateway.directory / "settings.yaml").unlink()
    wait_until(lambda: statuses() == [200, 200, 401], 5, "the defaults")


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
