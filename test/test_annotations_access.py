"""The annotations of ingress-nginx about access, limits and sizes in the real binary: what they do, what becomes of a value
that can't be understood, and how they go with a canary."""

import json
import ssl
import time
from urllib.parse import unquote

import pytest

from harness import Backend, simple_response, wait_until
from peers import Authority, manifest, opaque_secret, service, tls_secret
from test_annotations import NGINX_ROWS, basic, full, lab, own_service, shared_lab  # noqa: F401

CASES = {}     # key → functions
CANARY = []    # functions that hold for a canary too


def case(*keys, canary=False):
    def note(function):
        for key in keys:
            CASES.setdefault(key, []).append(function)
        if canary:
            CANARY.append(function)
        return function
    return note


def config_map(name, **data):
    return manifest("ConfigMap", name, data={key.replace("_", "-"): value for key, value in data.items()})


class Oracle:
    """A service that decides: by the header x-verdict, or else 200."""

    def __init__(self, lab):
        self.asked = []
        self.backend = Backend(self.answer)
        self.service = own_service(lab, self.backend)
        self.url = f"http://{self.service}.default.svc.cluster.local"

    def answer(self, request, connection):
        self.asked.append(request)
        verdict = request.header("x-verdict") or "200"
        if verdict == "slow":
            time.sleep(2)
            return None
        if verdict == "cut":
            connection.socket.close()
            return None
        return simple_response(b"body of the verdict", status=f"{verdict} X", headers=[
            "X-User: ann", "X-Internal: secret", "WWW-Authenticate: Bearer", *(["Set-Cookie: sid=1"] if request.header("x-cookie") else [])])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.backend.stop()


# --- another service decides


@case("auth-url", "auth-method", "auth-response-headers", "auth-keepalive", "auth-keepalive-requests", "auth-keepalive-timeout",
      "auth-keepalive-share-vars", canary=True)
def auth_url(lab):
    with Oracle(lab) as oracle:
        host = lab.route({"auth-url": oracle.url + "/check?u=$escaped_request_uri&m=$request_method", "auth-method": "post",
                          "auth-response-headers": "X-User, X-Absent", "auth-keepalive": "5", "auth-keepalive-requests": "9",
                          "auth-keepalive-timeout": "9", "auth-keepalive-share-vars": "true"})
        forged = {"X-User": "forged", "X-Absent": "forged", "Cookie": "c=1", "X-Forwarded-For": "9.9.9.9"}
        answer = lab.get(host, "/a b?x=1".replace(" ", "%20"), headers=forged, method="PUT", body=b"x" * 100000)
        assert answer.body == lab.service
        request, asked = lab.last(), oracle.asked[-1]
        assert request.body == b"x" * 100000 and request.all("x-user") == ["ann"]
        assert request.header("x-absent") is None and request.header("x-internal") is None
        assert (asked.method, asked.path, asked.body) == ("POST", "/check?u=%2Fa%2520b%3Fx%3D1&m=PUT", b"")
        assert asked.header("host") == oracle.service + ".default.svc.cluster.local" and asked.header("cookie") == "c=1"
        assert asked.header("x-original-url") == f"http://{host}/a%20b?x=1" and asked.header("x-original-method") == "PUT"
        assert asked.header("x-auth-request-redirect") == "/a%20b?x=1"
        assert asked.header("x-request-id") == request.header("x-request-id")
        lab.seen.clear()
        for verdict, status in [("401", 401), ("403", 403), ("404", 500), ("302", 500), ("500", 500), ("cut", 500)]:
            answer = lab.get(host, headers={"x-verdict": verdict})
            assert answer.status == status, verdict
            assert answer.header("www-authenticate") == ("Bearer" if status < 500 else None)
            assert answer.header("x-internal") is None and b"body of" not in answer.body
        assert lab.get(host, headers={"x-verdict": "204"}).body == lab.service and len(lab.seen) == 1


def test_who_may_be_asked(lab):
    """A Service, a registry, an address, the rule's host, over TLS: what can't be asked lets nobody in."""
    with Oracle(lab) as oracle:
        for url in (f"http://127.0.0.1:{oracle.backend.port}/x", f"http://localhost:{oracle.backend.port}/x", oracle.url + ":80"):
            host = lab.route({"auth-url": url})
            wait_until(lambda: lab.get(host).status == 200, 5, url)
            assert lab.get(host, headers={"x-verdict": "403"}).status == 403
        lab.get(host)
        for url, status in [("http://nobody.default.svc.cluster.local/", 500), ("http://127.0.0.1:1/", 500),
                            ("http://no-such-name.invalid/", 500), ("https://$host/x", 500)]:
            host = lab.route({"auth-url": url})
            assert lab.get(host).status == status, url
        assert "external authentication" not in lab.messages(host)
        wildcard = lab.ingress("*.wild.test", {"auth-url": "http://$host/x"}, name="wild")
        lab.apply("wild", wildcard)
        assert lab.get("a.wild.test").status == 503 and "$host stands for the rule's host" in lab.messages("wild")
    with Backend(context=lab.authority.server_context("x.y")) as backend:
        host = lab.route({"auth-url": f"https://127.0.0.1:{backend.port}/"})
        assert lab.get(host).status == 200 and len(backend.requests) == 1
        name = own_service(lab, backend)
        host = lab.route({"auth-url": f"https://{name}.default.svc.cluster.local:80/"})
        assert lab.get(host).status == 200 and len(backend.requests) == 2


def test_a_service_that_is_asked_comes_and_goes(lab):
    with Oracle(lab) as oracle:
        host = lab.route({"auth-url": "http://late-auth.default.svc.cluster.local/"})
        assert lab.get(host).status == 500
        lab.apply("late-auth", service("late-auth", 80, oracle.backend.port))
        assert lab.get(host).status == 200 and lab.get(host, headers={"x-verdict": "401"}).status == 401
        lab.apply("late-auth", "")
        wait_until(lambda: lab.get(host).status == 500, 5, "the service is gone")


@case("auth-signin", "auth-signin-redirect-param", canary=True)
def auth_signin(lab):
    with Oracle(lab) as oracle:
        for annotations, location in [
                ({"auth-signin": "https://login.test/in"}, "https://login.test/in?rd=http://{host}%2Fa%3Fb%3Dc"),
                ({"auth-signin": "https://$host/in?x=1", "auth-signin-redirect-param": "next"},
                 "https://{host}/in?x=1&next=http://{host}%2Fa%3Fb%3Dc"),
                ({"auth-signin": "https://login.test/in?rd=$escaped_request_uri"}, "https://login.test/in?rd=%2Fa%3Fb%3Dc")]:
            host = lab.route({"auth-url": oracle.url, **annotations})
            answer = lab.get(host, "/a?b=c", headers={"x-verdict": "401", "x-cookie": "1"})
            assert (answer.status, answer.header("location")) == (302, location.format(host=host))
            assert answer.header("set-cookie") == "sid=1"
            assert lab.get(host, headers={"x-verdict": "403"}).status == 403
            assert lab.get(host).status == 200


@case("auth-request-redirect", "auth-proxy-set-headers", canary=True)
def auth_call_fields(lab):
    with Oracle(lab) as oracle:
        name = f"auth-fields{lab.canary:d}"
        host = lab.route({"auth-url": oracle.url, "auth-request-redirect": "https://$http_host/back", "auth-proxy-set-headers": name})
        assert lab.get(host).status == 503 and "does not exist" in lab.messages(host)
        lab.apply(name, config_map(name, X_Client="$remote_addr", X_Fixed="one"))
        assert lab.get(host).status == 200
        asked = oracle.asked[-1]
        assert asked.header("x-client") == "127.0.0.1" and asked.header("x-fixed") == "one"
        assert asked.header("x-auth-request-redirect") == f"https://{host}/back"
        lab.apply(name, config_map(name, X_Fixed="two"))
        assert lab.get(host).status == 200 and oracle.asked[-1].header("x-fixed") == "two"
        lab.apply(name, config_map(name, X_Fixed="$nonsense"))
        assert lab.get(host).status == 503 and '"$nonsense" is not a variable' in lab.messages(host)


@case("auth-cache-key", "auth-cache-duration", canary=True)
def auth_cache(lab):
    with Oracle(lab) as oracle:
        host = lab.route({"auth-url": oracle.url, "auth-cache-key": "$http_authorization", "auth-cache-duration": "200 1s, 403 10m",
                          "auth-response-headers": "X-User"})

        def ask(who, verdict="200", **headers):
            before = len(oracle.asked)
            status = lab.get(host, headers={"Authorization": who, "x-verdict": verdict, **headers}).status
            return status, len(oracle.asked) - before
        assert [ask("a"), ask("a"), ask("a", "403")] == [(200, 1), (200, 0), (200, 0)]
        assert lab.last().header("x-user") == "ann"
        assert [ask("b", "403"), ask("b")] == [(403, 1), (403, 0)]
        assert [ask("c", "401"), ask("c")] == [(401, 1), (200, 1)]
        assert [ask("d", **{"x-cookie": "1"}), ask("d", "500")] == [(200, 1), (500, 1)]
        time.sleep(1.1)
        assert ask("a", "401") == (401, 1)


@case("auth-always-set-cookie", canary=True)
def auth_cookies(lab):
    with Oracle(lab) as oracle:
        for value, expected in [("true", {200: True, 404: True}), ("false", {200: True, 404: False})]:
            host = lab.route({"auth-url": oracle.url, "auth-always-set-cookie": value})
            for status, there in expected.items():
                answer = lab.get(host, f"/status/{status}", headers={"x-cookie": "1"})
                assert answer.status == status and (answer.header("set-cookie") == "sid=1") is there


@case("auth-snippet")
def auth_snippet(lab):
    with Oracle(lab) as oracle:
        text = """
            # for the call alone
            proxy_set_header X-Path $request_uri;
            more_set_input_headers "X-Role: admin" "X-Host: $host";
            more_clear_input_headers X-Secret;
            proxy_set_header X-Drop "";
            proxy_connect_timeout 3s;"""
        host = lab.route({"auth-url": oracle.url, "auth-snippet": text})
        told = lab.messages(host)
        assert "auth-snippet]: line 7: proxy_connect_timeout can't be translated for the call" in told and told.count("line ") == 1
        answer = lab.get(host, "/p?q=1", headers={"x-secret": "s", "x-drop": "d", "x-role": "guest"})
        assert answer.status == 200
        call = oracle.asked[-1]
        assert [call.header(n) for n in ("x-path", "x-role", "x-host", "x-secret", "x-drop")] == ["/p?q=1", "admin", host, None, None]
        assert [lab.last().header(n) for n in ("x-path", "x-role", "x-secret", "x-drop")] == [None, "guest", "s", "d"]  # untouched
        assert lab.get(host, headers={"x-verdict": "403"}).status == 403
        assert "has no effect without auth-url" in lab.messages(lab.route({"auth-snippet": "proxy_set_header X-A b;"}))
        # What the decision may hang on must not get lost.
        for text in ("proxy_set_header X-Role $nope;", "if ($host) { proxy_set_header X-Role a; }", "deny all;", "proxy_set_header x"):
            host = lab.route({"auth-url": oracle.url, "auth-snippet": text})
            assert lab.get(host).status == 503 and "auth-snippet" in lab.messages(host), text


def test_a_slow_verdict_holds_up_nobody_else(lab):
    """Requests that wait are given up by clients that go; nothing passes meanwhile."""
    with Oracle(lab) as oracle:
        host, other = lab.route({"auth-url": oracle.url}), lab.route()
        waiting = [lab.gateway.connect() for _ in range(20)]
        for client in waiting:
            client.request(host=host, headers={"x-verdict": "slow"})
        wait_until(lambda: len(oracle.asked) == 20, 5, "all are asked about")
        lab.seen.clear()
        assert lab.get(other).status == 200
        for client in waiting:
            client.socket.close()
        assert lab.get(host).status == 200
        assert len(lab.seen) == 2


@case("satisfy", canary=True)
def satisfy(lab):
    secret = opaque_secret(f"satisfy{lab.canary:d}", namespace="default", auth="ann:{PLAIN}x")
    password = {"auth-type": "basic", "auth-secret": f"satisfy{lab.canary:d}"}
    right = basic("ann", "x")
    with Oracle(lab) as oracle:
        for annotations, plain, good in [
                ({"satisfy": "any", "whitelist-source-range": "127.0.0.1"}, 200, 200),
                ({"satisfy": "any", "whitelist-source-range": "1.1.1.1"}, 401, 200),
                ({"satisfy": "all", "whitelist-source-range": "1.1.1.1"}, 403, 403),
                ({"satisfy": "all", "whitelist-source-range": "127.0.0.1"}, 401, 200),
                ({"satisfy": "any"}, 401, 200),
                ({"satisfy": "any", "whitelist-source-range": "127.0.0.1", "denylist-source-range": "127.0.0.1"}, 403, 403),
                ({"satisfy": "some"}, 503, 503)]:
            host = lab.route({**password, **annotations}, more=[secret])
            assert (lab.get(host).status, lab.get(host, headers=right).status) == (plain, good), annotations
            host = lab.route({"auth-url": oracle.url, **annotations})
            assert (lab.get(host, headers={"x-verdict": "401"}).status, lab.get(host).status) == (plain, good), annotations
    # Without any authentication the whitelist decides alone.
    assert lab.get(lab.route({"satisfy": "any", "whitelist-source-range": "1.1.1.1"})).status == 403


@case("enable-global-auth")
def global_auth(lab):
    def settings(**auth):
        return manifest("ConfigMap", "higress-config", namespace="higress-system", data={"higress": json.dumps({"globalAuth": auth} if auth else {})})
    with Oracle(lab) as oracle, Oracle(lab) as own:
        asked, free, other = lab.route(), lab.route({"enable-global-auth": "false"}), lab.route({"auth-url": own.url})
        denied = {"x-verdict": "401"}
        try:
            lab.apply("settings", settings(url=oracle.url + "/g", signin="https://login.test/", responseHeaders="X-User"))
            answer = lab.get(asked, headers=denied)
            assert (answer.status, answer.header("location")) == (302, f"https://login.test/?rd=http://{asked}%2F")
            assert lab.get(asked).status == 200 and lab.last().header("x-user") == "ann" and oracle.asked[-1].path == "/g"
            assert lab.get(free, headers=denied).status == 200 and lab.get(other, headers=denied).status == 401
            late = lab.route()
            assert lab.get(late, headers=denied).status == 302
            lab.give("settings", settings(url="nonsense"))  # refused: the last good one stays
            assert lab.get(lab.route(), headers=denied).status == 302
            assert "globalAuth" in lab.gateway.admin("/objects") and "is not an http or https URL" in lab.gateway.admin("/objects")
        finally:
            lab.apply("settings", settings())
        assert lab.get(asked, headers=denied).status == 200


# --- per client


@case("limit-rps", "limit-rpm", "limit-burst-multiplier", "limit-allowlist", "limit-whitelist", canary=True)
def limit_rates(lab):
    for annotations, good in [({"limit-rpm": "1", "limit-burst-multiplier": "3"}, 4), ({"limit-rpm": "2"}, 11),
                              ({"limit-rps": "1000", "limit-rpm": "1", "limit-burst-multiplier": "1"}, 2)]:
        host = lab.route(annotations, paths=[("/a", "Prefix", "base"), ("/b", "Prefix", "base")])
        answers = [lab.get(host, "/" + "ab"[n % 2]) for n in range(good + 3)]  # both paths count together
        assert [a.status for a in answers] == [200] * good + [503] * 3, annotations
        assert answers[-1].body == b"too many requests"
    host = lab.route({"limit-rps": "2", "limit-burst-multiplier": "1", "sluice.io/limit-status": "429"})
    assert [lab.get(host).status for _ in range(4)] == [200, 200, 200, 429]
    time.sleep(0.6)
    assert [lab.get(host).status for _ in range(2)] == [200, 429]
    for key in ("limit-allowlist", "limit-whitelist"):
        host = lab.route({"limit-rpm": "1", "limit-burst-multiplier": "1", key: "10.0.0.0/8, 127.0.0.0/8"})
        assert [lab.get(host).status for _ in range(5)] == [200] * 5
        host = lab.route({"limit-rpm": "1", "limit-burst-multiplier": "1", key: "10.0.0.0/8, x"})
        assert [lab.get(host).status for _ in range(3)] == [200, 200, 503] and "the entry is ignored" in lab.messages(host)
    assert [lab.get(lab.route({"limit-rpm": "0", "limit-rps": "0"})).status for _ in range(3)] == [200] * 3


def test_a_change_of_the_configuration_forgets_no_count(lab):
    host = lab.host()
    limits = {"limit-rpm": "1", "limit-burst-multiplier": "2"}
    lab.apply(host, lab.ingress(host, limits))
    assert [lab.get(host).status for _ in range(4)] == [200, 200, 200, 503]
    lab.apply(host, lab.ingress(host, {**limits, "timeout": "5"}))
    assert lab.get(host).status == 503


@case("limit-connections", canary=True)
def limit_connections(lab):
    host = lab.route({"limit-connections": "2"})
    slow = []
    for _ in range(2):
        client = lab.gateway.connect()
        client.request("GET", "/delay/700", host=host, headers={"x-canary": "always"} if lab.canary else {})
        slow.append(client)
    lab.seen.clear()
    wait_until(lambda: lab.get(host, "/x").status == 503, 5, "two requests in progress")
    assert [client.response().status for client in slow] == [200, 200]
    assert [lab.get(host).status for _ in range(5)] == [200] * 5
    gone = lab.gateway.connect()  # a client that goes has left
    gone.request("GET", "/delay/5000", host=host)
    gone.socket.close()
    wait_until(lambda: [lab.get(host).status for _ in range(3)] == [200] * 3, 5, "its place is free")


@case("limit-rate", "limit-rate-after")
def limit_rate(lab):
    body = bytes(range(256)) * 800  # 200 KiB
    with Backend(lambda r, c: simple_response(body)) as backend:
        service = own_service(lab, backend)
        def timed(annotations):
            host = lab.host()
            lab.apply(host, lab.ingress(host, annotations, service))
            begin = time.monotonic()
            assert lab.gateway.get("/", host=host).body == body
            return time.monotonic() - begin
        assert 1.6 < timed({"limit-rate": "100"}) < 2.6
        assert 0.7 < timed({"limit-rate": "100", "limit-rate-after": "100"}) < 1.6
        assert timed({"limit-rate": "0"}) < 0.7


def test_a_slowed_response_slows_the_upstream(lab):
    """Back-pressure: what the client may not have yet is not read from the upstream."""
    sent = []

    def stream(request, connection):
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
        for _ in range(400):
            connection.socket.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent.append(65536)
        connection.socket.sendall(b"0\r\n\r\n")
        return None
    with Backend(stream) as backend:
        host = lab.host()
        lab.apply(host, lab.ingress(host, {"limit-rate": "64"}, own_service(lab, backend)))
        with lab.gateway.connect() as client:
            client.request("GET", host=host)
            time.sleep(1.5)
            assert sum(sent) < 12 << 20  # of 25 MiB: socket buffers and the gateway's limit
        assert lab.get(lab.route()).status == 200


def test_a_slowed_response_keeps_its_end(lab):
    """Chunked with trailers, over HTTP/2 too; the connection stays good."""
    def stream(request, connection):
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
                                  b"5000\r\n" + b"y" * 0x5000 + b"\r\n0\r\nx-sum: 7\r\n\r\n")
        return None
    with Backend(stream) as backend:
        host = lab.host()
        lab.apply(host, lab.ingress(host, {"limit-rate": "40"}, own_service(lab, backend)))
        with lab.gateway.connect() as client:
            for _ in range(2):
                begin = time.monotonic()
                client.request("GET", host=host)
                answer = client.response()
                assert answer.body == b"y" * 0x5000 and 0.3 < time.monotonic() - begin < 1.5


# --- sizes


@case("proxy-body-size", "client-body-buffer-size", "proxy-request-buffering", canary=True)
def body_size(lab):
    host = lab.route({"proxy-body-size": "100k", "client-body-buffer-size": "1m", "proxy-request-buffering": "on"})
    assert lab.get(host, method="POST", body=b"x" * 102400).body == lab.service and len(lab.last().body) == 102400
    lab.seen.clear()
    answer = lab.get(host, method="POST", body=b"x" * 102401)
    assert answer.status == 413 and not lab.seen
    canary = {"x-canary": "always"} if lab.canary else {}
    with lab.gateway.connect() as client:  # refused before the body is asked for
        client.request("POST", host=host, headers={"Content-Length": "200000", "Expect": "100-continue", **canary})
        assert client.response().status == 413
    for size, status in [(102400, 200), (102401, 413), (1 << 20, 413)]:
        with lab.gateway.connect() as client:
            client.request("POST", host=host, headers={"Transfer-Encoding": "chunked", **canary})
            piece = b"x" * 1024
            try:
                for at in range(0, size, 1024):
                    now = piece[:size - at]
                    client.socket.sendall(f"{len(now):x}\r\n".encode() + now + b"\r\n")
                client.socket.sendall(b"0\r\n\r\n")
            except ConnectionError:
                pass
            assert client.response().status == status, size
    assert lab.get(lab.route({"proxy-body-size": "0"}), method="POST", body=b"x" * 300000).status == 200


@case("proxy-buffer-size", "proxy-buffering", "proxy-buffers-number", "proxy-busy-buffers-size", "proxy-max-temp-file-size")
def head_size(lab):
    with Backend(lambda r, c: simple_response(headers=["x-large: " + "x" * int(r.path[1:])])) as backend:
        host = lab.route({"proxy-buffer-size": "4k", "proxy-buffering": "on", "proxy-buffers-number": "4",
                          "proxy-busy-buffers-size": "8k", "proxy-max-temp-file-size": "1g"}, backend=own_service(lab, backend))
        assert [lab.get(host, f"/{size}").status for size in (3000, 5000, 3000)] == [200, 502, 200]


# --- client certificates


@case("auth-tls-verify-client", "auth-tls-verify-depth", "auth-tls-error-page", "auth-tls-match-cn",
      "auth-tls-pass-certificate-to-upstream")
def client_certificates(lab):
    host, other = lab.host(), Authority("Other")
    lab.give("mtls-secrets", tls_secret("mtls", lab.authority.issue(host), namespace="default"),
             opaque_secret("mtls-ca", namespace="default", ca_crt=lab.authority.pem))
    good, bad = lab.authority.issue("app", client=True), other.issue("app", client=True)
    forged = {"ssl-client-verify": "SUCCESS", "ssl-client-cert": "forged", "ssl-client-subject-dn": "CN=root"}

    def ask(certificate):
        """The status and location; None: no handshake."""
        context = lab.authority.client_context(certificate=certificate)
        try:
            with lab.gateway.connect(tls=True, context=context, server_hostname=host) as client:
                client.request("GET", "/p", host=host, headers=forged)
                answer = client.response()
                return answer.status, answer.header("location")
        except (ssl.SSLError, ConnectionError, EOFError):
            return None

    def outcomes(**annotations):
        lab.apply(host, lab.ingress(host, {"auth-tls-secret": "mtls-ca", **{"auth-tls-" + k.replace("_", "-"): v for k, v in
                                                                             annotations.items()}}, tls="mtls"))
        return [ask(c) for c in (good, None, bad)]
    ok = (200, None)
    assert outcomes() == [ok, None, None]
    assert outcomes(verify_client="off") == [ok, ok, ok]
    assert lab.last().all("ssl-client-verify") == ["NONE"]
    assert outcomes(verify_client="optional") == [ok, ok, None]
    assert lab.last().all("ssl-client-verify") == ["NONE"] and lab.last().header("ssl-client-subject-dn") is None
    assert outcomes(verify_client="optional_no_ca") == [ok, ok, ok]
    assert lab.last().header("ssl-client-verify").startswith("FAILED:") and lab.last().header("x-forwarded-client-cert") is None
    page = f"https://{host}/why/p"
    assert outcomes(error_page="https://$host/why$request_uri") == [ok, (302, page), (302, page)]
    assert outcomes(error_page="https://$host/why$request_uri", verify_client="optional") == [ok, ok, (302, page)]
    assert outcomes(match_cn="CN=(app|batch)") == [ok, None, None]
    assert outcomes(match_cn="CN=other", verify_client="optional") == [(403, None), (403, None), None]
    assert outcomes(pass_certificate_to_upstream="true", verify_depth="1")[0] == ok
    seen = lab.last()
    assert seen.all("ssl-client-verify") == ["SUCCESS"] and "CN=app" in seen.header("ssl-client-subject-dn")
    assert unquote(seen.header("ssl-client-cert")).startswith("-----BEGIN CERTIFICATE-----")
    assert seen.header("ssl-client-issuer-dn") and seen.header("x-forwarded-client-cert")
    assert outcomes(pass_certificate_to_upstream="false")[0] == ok and lab.last().header("ssl-client-cert") is None


def test_client_certificates_never_leave_a_route_open(lab):
    """A CN without a CA; a second Ingress of the host whose TLS options do not count."""
    host = lab.route({"auth-tls-match-cn": "CN=app"})
    assert lab.get(host).status == 503 and "no client certificates without auth-tls-secret" in lab.messages(host)
    host = lab.route({"auth-tls-verify-client": "optional"})
    assert lab.get(host).status == 200 and "has no effect without auth-tls-secret" in lab.messages(host)
    host = lab.host()
    lab.apply(host, tls_secret("mtls-two", lab.authority.issue(host), namespace="default"),
              opaque_secret("mtls-two-ca", namespace="default", ca_crt=lab.authority.pem),
              lab.ingress(host, {"tls-min-protocol-version": "TLSv1.2"}, tls="mtls-two", path="/open", created=1, name="mtls-open"),
              lab.ingress(host, {"auth-tls-secret": "mtls-two-ca"}, tls="mtls-two", path="/closed", created=2))
    with lab.gateway.connect(tls=True, context=lab.authority.client_context(), server_hostname=host) as client:
        for path, status in (("/open", 200), ("/closed", 400)):
            client.request("GET", path, host=host)
            assert client.response().status == status


# --- others


@case("custom-headers", canary=True)
def custom_headers(lab):
    name = f"response-fields{lab.canary:d}"
    host = lab.route({"custom-headers": name, "whitelist-source-range": "127.0.0.1"})
    assert lab.get(host).status == 200 and "does not exist; no field is set" in lab.messages(host)
    lab.apply(name, config_map(name, X_Frame_Options="DENY 100%", X_Internal="2", Content_Length="7"))
    answer = lab.get(host)
    assert answer.body == lab.service and answer.header("x-frame-options") == "DENY 100%" and answer.header("x-internal") == "2"
    assert '"Content-Length" is left out' in lab.messages(host)
    lab.apply(name, config_map(name, X_Frame_Options="SAMEORIGIN"))
    assert lab.get(host).header("x-frame-options") == "SAMEORIGIN"
    denied = lab.route({"custom-headers": name, "denylist-source-range": "127.0.0.1"})
    assert (lab.get(denied).status, lab.get(denied).header("x-frame-options")) == (403, "SAMEORIGIN")


@case("x-forwarded-prefix", canary=True)
def forwarded_prefix(lab):
    host = lab.route({"x-forwarded-prefix": "/app%20", "rewrite-target": "/$1"}, path="/app/(.*)")
    assert lab.get(host, "/app/x", headers={"X-Forwarded-Prefix": "forged"}).body == lab.service
    assert lab.last().path == "/x" and lab.last().all("x-forwarded-prefix") == ["/app%20"]
    host = lab.route({"x-forwarded-prefix": "/app"})
    assert lab.get(host).body == lab.service and lab.last().header("x-forwarded-prefix") is None


@case("enable-access-log", canary=True)
def access_log(lab):
    silent, logged = lab.route({"enable-access-log": "false"}), lab.route({"enable-access-log": "true"})
    assert lab.get(silent).status == lab.get(logged).status == 200
    log = lab.gateway.log_path
    wait_until(lambda: f'"{logged}"' in log.read_text(), 5, "the log")
    assert f'"{silent}"' not in log.read_text()


@case("relative-redirects", "use-port-in-redirects", "preserve-trailing-slash")
def redirects(lab):
    host = lab.route({"app-root": "/start", "relative-redirects": "true"})
    assert (lab.get(host).status, lab.get(host).header("location")) == (302, "/start")
    host = lab.route({"app-root": "/start", "use-port-in-redirects": "true"})
    assert lab.get(host + ":8080").header("location") == f"http://{host}:8080/start"
    host = lab.route({"ssl-redirect": "true", "preserve-trailing-slash": "true"})
    assert lab.get(host, "/a/").header("location").endswith("/a/")


@case("connection-proxy-header", "enable-rewrite-log", "http2-push-preload", "enable-opentelemetry",
      "opentelemetry-trust-incoming-span", "opentelemetry-operation-name")
def accepted(lab):
    """Without a tracing provider the tracing switches have nothing to switch; test_tracing.py has them at work."""
    host = lab.route({"connection-proxy-header": "keep-alive", "enable-rewrite-log": "true", "http2-push-preload": "true",
                      "enable-opentelemetry": "true", "opentelemetry-trust-incoming-span": "false",
                      "opentelemetry-operation-name": "shop"})
    assert lab.get(host).body == b"base" and not lab.messages(host)


@case("enable-modsecurity", "enable-owasp-core-rules", "modsecurity-snippet", "modsecurity-transaction-id", canary=True)
def firewall(lab):
    for key in ("enable-modsecurity", "enable-owasp-core-rules"):
        host = lab.route({key: "true"})
        assert lab.get(host).status == 503 and "firewall, which is not available" in lab.messages(host)
        assert lab.get(lab.route({key: "false"})).status == 200
    host = lab.route({"modsecurity-snippet": "SecRuleEngine On", "modsecurity-transaction-id": "$request_id"})
    assert lab.get(host).status == 200 and lab.messages(host).count("firewall is not available") == 2


# --- the tests


@pytest.mark.parametrize("function", list(dict.fromkeys(f for functions in CASES.values() for f in functions)), ids=lambda f: f.__name__)
def test_annotation(lab, function):  # noqa: F811
    function(lab)


@pytest.mark.parametrize("function", CANARY, ids=lambda f: f.__name__)
def test_annotation_holds_for_a_canary(lab, function):  # noqa: F811
    lab.canary = True
    function(lab)


MALFORMED = {
    "auth-url": ("ftp://x", '"ftp://x" is not an http or https URL'),
    "auth-method": ("FETCH", '"FETCH" is not one of GET, HEAD'),
    "auth-signin": ("login", '"login" is not a URL or path'),
    "auth-signin-redirect-param": ("a=b", '"a=b" is not the name of a query parameter'),
    "auth-response-headers": ("a b", '"a b" is not a header name'),
    "auth-request-redirect": ("$x", '"$x" is not a variable'),
    "auth-proxy-set-headers": ("a/b/c", '"a/b/c" is not a ConfigMap: write name or namespace/name'),
    "auth-cache-key": ("${host", '"$host" is not a variable'),
    "auth-cache-duration": ("200 soon", '"200 soon" is not a list of statuses and a time'),
    "auth-always-set-cookie": ("yes", '"yes" is not true or false'),
    "auth-snippet": ("proxy_set_header X-A;", "line 1: proxy_set_header needs a name and a value"),
    "auth-keepalive": ("x", '"x" is not a whole number'),
    "auth-keepalive-requests": ("x", '"x" is not a whole number'),
    "auth-keepalive-timeout": ("x", '"x" is not a whole number'),
    "auth-keepalive-share-vars": ("x", '"x" is not true or false'),
    "limit-rps": ("x", '"x" is not a whole number'),
    "limit-rpm": ("-1", '"-1" is not in 0..60000000'),
    "limit-burst-multiplier": ("0", '"0" is not in 1..1000'),
    "limit-connections": ("many", '"many" is not a whole number'),
    "limit-allowlist": ("x", '"x" is not an IP address or a network such as 10.0.0.0/8'),
    "limit-whitelist": ("x", '"x" is not an IP address or a network such as 10.0.0.0/8'),
    "limit-rate": ("1m", '"1m" is not a whole number'),
    "limit-rate-after": ("-1", '"-1" is not in 0..4294967296'),
    "sluice.io/limit-status": ("200", '"200" is not in 400..599'),
    "auth-tls-verify-client": ("yes", '"yes" is not one of on, off, optional, optional_no_ca'),
    "auth-tls-verify-depth": ("-1", '"-1" is not in 0..100'),
    "auth-tls-error-page": ("/x", '"/x" is not an http or https URL'),
    "auth-tls-match-cn": ("app", '"app" must begin with CN='),
    "auth-tls-pass-certificate-to-upstream": ("yes", '"yes" is not true or false'),
    "custom-headers": ("a b", '"a b" is not a ConfigMap: write name or namespace/name'),
    "enable-access-log": ("no", '"no" is not true or false'),
    "enable-rewrite-log": ("no", '"no" is not true or false'),
    "enable-opentelemetry": ("on", '"on" is not true or false'),
    "opentelemetry-trust-incoming-span": ("on", '"on" is not true or false'),
    "opentelemetry-operation-name": ("HTTP $request_method", "holds a variable"),
    "http2-push-preload": ("on", '"on" is not true or false'),
    "relative-redirects": ("on", '"on" is not true or false'),
    "use-port-in-redirects": ("on", '"on" is not true or false'),
    "preserve-trailing-slash": ("on", '"on" is not true or false'),
    "enable-modsecurity": ("on", '"on" is not true or false'),
    "enable-owasp-core-rules": ("on", '"on" is not true or false'),
    "proxy-body-size": ("8x", '"8x" is not a size such as 8m, 512k or 0'),
    "client-body-buffer-size": ("-1", '"-1" is not a size such as 8m, 512k or 0'),
    "proxy-request-buffering": ("true", '"true" is not on or off'),
    "proxy-buffer-size": ("4kk", '"4kk" is not a size such as 8m, 512k or 0'),
    "proxy-buffering": ("yes", '"yes" is not on or off'),
    "proxy-buffers-number": ("x", '"x" is not a whole number'),
    "proxy-busy-buffers-size": ("", "is empty and has no effect"),
    "proxy-max-temp-file-size": ("99999999999999999999", '"99999999999999999999" is not a size'),
    "enable-global-auth": ("no", '"no" is not true or false'),
    "satisfy": ("some", '"some" is not one of all, any'),
}


@pytest.fixture(scope="module")
def malformed_hosts(shared_lab):  # noqa: F811
    shared_lab.canary = False
    hosts = {key: shared_lab.host() for key in MALFORMED}
    other = {"response-header-control-add": "x-other works"}
    shared_lab.apply("malformed-access", *(shared_lab.ingress(hosts[key], {**other, full(key): value}) for key, (value, _) in MALFORMED.items()))
    return hosts


@pytest.mark.parametrize("key", MALFORMED)
def test_malformed_value(lab, malformed_hosts, key):  # noqa: F811
    """The message names object, annotation, what was wrong and right; the rest works; what guards a route closes it."""
    host = malformed_hosts[key]
    told = lab.messages(host)
    assert f"Ingress default/{host.replace('.', '-')}: metadata.annotations[{full(key)}]: " in told
    assert MALFORMED[key][1] in told
    answer = lab.get(host)
    if key in NGINX_ROWS and NGINX_ROWS[key][3]:
        assert answer.status == 503 and "answer 503" in told
    else:
        assert answer.status == 200 and answer.header("x-other") == "works"
