"""The annotations of ingress-nginx that Higress lacks, about hosts, upstreams, responses and snippets: in the real binary."""

import json
import re
import ssl
import threading
import time

import pytest

from harness import Backend, simple_response, wait_until
from peers import Authority, load_pair, manifest, opaque_secret, service, tls_secret
from test_annotations import NGINX_ROWS, Lab, full


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("nginx")).start()
    yield lab
    lab.stop()


def backend_service(lab, name, backend, **options):
    lab.give("service-" + name, service(name, 80, backend.port, **options))


# --- timeouts


def slow_backend(lab, name, *pieces):
    """Sends the pieces, (seconds to wait, bytes) each."""
    def handler(request, connection):
        for seconds, data in pieces:
            time.sleep(seconds)
            connection.socket.sendall(data)
    backend = Backend(handler)
    backend_service(lab, name, backend)
    return backend


def test_read_timeout(lab):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    quiet = slow_backend(lab, "quiet", (2.5, head + b"late"))
    steady = slow_backend(lab, "steady", (0.6, head), (0.6, b"a"), (0.6, b"b"), (0.6, b"c"), (0.6, b"d"))
    stuck = slow_backend(lab, "stuck", (0, head + b"a"), (2.5, b"bcd"))
    host = lab.route({"proxy-read-timeout": "1", "proxy-next-upstream-tries": "0"}, paths=[
        ("/quiet", "Prefix", "quiet"), ("/steady", "Prefix", "steady"), ("/stuck", "Prefix", "stuck")])
    began = time.monotonic()
    assert lab.get(host, "/quiet").status == 504
    assert time.monotonic() - began < 2
    assert lab.get(host, "/steady").body == b"abcd"  # 3 s in all, never 1 s without a byte
    with lab.gateway.connect() as client, pytest.raises((EOFError, ConnectionError)):
        client.request("GET", "/stuck", host=host)
        client.response()
    for backend in (quiet, steady, stuck):
        backend.stop()


def test_read_timeout_begins_with_the_whole_request(lab):
    host = lab.route({"proxy-read-timeout": "1"})
    with lab.gateway.connect() as client:
        client.send(f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\na".encode())
        time.sleep(1.6)
        client.send(b"b")
        assert client.response().status == 200


def test_send_timeout(lab):
    done = threading.Event()

    def deaf(accepted):
        done.wait(20)
    backend = Backend(raw=deaf)
    backend_service(lab, "deaf", backend)
    host = lab.route({"proxy-send-timeout": "1", "proxy-next-upstream-tries": "0"}, backend="deaf")
    began = time.monotonic()
    with lab.gateway.connect() as client:
        client.socket.settimeout(15)
        client.send(f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100000000\r\n\r\n".encode())

        def feed():
            try:
                while True:
                    client.socket.sendall(b"x" * 65536)
            except OSError:
                pass
        threading.Thread(target=feed, daemon=True).start()
        assert client.response().status == 504
    assert 1 <= time.monotonic() - began < 8
    done.set()
    backend.stop()


def test_connect_timeout_and_service_upstream(lab):
    lab.give("service-far", service("far", 80, 80, addresses=("192.0.2.1",)))
    host = lab.route({"proxy-connect-timeout": "1", "proxy-next-upstream-tries": "0"}, backend="far")
    began = time.monotonic()
    assert lab.get(host).status in (503, 504)
    assert time.monotonic() - began < 5
    backend = Backend(host="127.0.0.2")
    document = service("own", backend.port, 1, addresses=()).replace('"ports":', '"clusterIP": "127.0.0.2", "ports":', 1)
    assert "clusterIP" in document
    lab.give("service-own", document)
    document = lab.ingress("clusterip.test", {"service-upstream": "true"}, backend="own").replace('"number": 80', f'"number": {backend.port}')
    lab.apply("clusterip", document)
    assert lab.get("clusterip.test").status == 200
    backend.stop()


# --- affinity


def pods(lab, name, count):
    backends = [Backend(lambda r, c, i=i: simple_response(f"{name}{i}".encode()), host=f"127.0.0.{i + 2}") for i in range(1)]
    port = backends[0].port
    for i in range(1, count):
        backends.append(Backend(lambda r, c, i=i: simple_response(f"{name}{i}".encode()), host=f"127.0.0.{i + 2}", port=port))
    lab.give("service-" + name, service(name, 80, port, addresses=[f"127.0.0.{i + 2}" for i in range(count)]))
    return backends, port


def cookie_of(answer):
    return (answer.header("set-cookie") or "").split(";")[0]


def test_persistent_affinity(lab):
    backends, port = pods(lab, "pinned", 5)
    host = lab.route({"affinity": "cookie", "affinity-mode": "persistent", "session-cookie-name": "stay"}, backend="pinned")
    pinned = {}
    for _ in range(30):
        answer = lab.get(host)
        cookie = cookie_of(answer)
        assert re.fullmatch("stay=[0-9a-f]{16}", cookie)
        pinned[cookie] = answer.body
        again = lab.get(host, headers={"cookie": cookie})
        assert again.body == answer.body and again.header("set-cookie") is None
    assert len(pinned) == 5 and len(set(pinned.values())) == 5
    # A new endpoint moves nobody; only those of one that is gone get another.
    lab.apply("service-pinned", service("pinned", 80, port, addresses=[f"127.0.0.{i + 2}" for i in (0, 1, 2, 3)]))
    for cookie, body in pinned.items():
        answer = lab.get(host, headers={"cookie": cookie})
        if body == b"pinned4":
            assert cookie_of(answer) in pinned and answer.body != body
        else:
            assert answer.body == body and answer.header("set-cookie") is None
    assert cookie_of(lab.get(host, headers={"cookie": "stay=nonsense"})) in pinned
    for backend in backends:
        backend.stop()


@pytest.mark.parametrize("mode", ["balanced", "persistent"])
def test_change_on_failure(lab, mode):
    backends, _ = pods(lab, "f" + mode, 2)
    both = {"affinity": "cookie", "affinity-mode": mode, "proxy-next-upstream": "error"}
    host = lab.route({**both, "session-cookie-change-on-failure": "true"}, backend="f" + mode)
    first = lab.get(host)
    victim = backends[int(first.body[-1:])]
    victim.stop()
    moved = lab.get(host, headers={"cookie": cookie_of(first)})
    assert moved.status == 200 and moved.body != first.body
    assert cookie_of(moved) not in ("", cookie_of(first))
    for backend in backends:
        backend.stop()


def test_cookie_attributes(lab):
    host = lab.route({"affinity": "cookie", "session-cookie-name": "c", "session-cookie-domain": "x.test", "session-cookie-path": "/p",
                      "session-cookie-secure": "true", "session-cookie-samesite": "none", "session-cookie-expires": "60",
                      "session-cookie-conditional-samesite-none": "true"}, backend="third")
    text = lab.get(host).header("set-cookie")
    for part in ("; Expires=", "; Max-Age=60", "; Domain=x.test", "; Path=/p", "; Secure", "; HttpOnly", "; SameSite=None"):
        assert part in text, text
    old = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_1 like Mac OS X) AppleWebKit/605 Version/12.0 Safari/604"
    assert "SameSite" not in lab.get(host, headers={"user-agent": old}).header("set-cookie")
    chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537 Chrome/{} Safari/537"
    assert "SameSite" not in lab.get(host, headers={"user-agent": chrome.format("66.0.1")}).header("set-cookie")
    assert "SameSite" in lab.get(host, headers={"user-agent": chrome.format("120.0.1")}).header("set-cookie")


@pytest.mark.parametrize("mode", ["balanced", "persistent"])
def test_sticky_canary(lab, mode):
    base, _ = pods(lab, "sb" + mode, 2)
    other, _ = pods(lab, "sc" + mode, 2)
    affinity = {"affinity": "cookie", "affinity-mode": mode, "affinity-canary-behavior": "sticky", "session-cookie-name": "side"}
    host = lab.host()
    canary = {"canary": "true", "canary-weight": "50", "affinity": "cookie", "affinity-mode": mode, "session-cookie-name": "side"}
    lab.apply(host, lab.ingress(host, affinity, backend="sb" + mode),
              lab.ingress(host, canary, backend="sc" + mode, name=host.replace(".", "-") + "-c", created=5))
    sides = {}
    for _ in range(40):
        answer = lab.get(host)
        sides[cookie_of(answer)] = answer.body
    assert {body[:2] for body in sides.values()} == {b"sb", b"sc"}
    for cookie, body in sides.items():
        for _ in range(3):
            assert lab.get(host, headers={"cookie": cookie}).body == body
    for backend in base + other:
        backend.stop()


def test_hash_by_subset(lab):
    backends, _ = pods(lab, "sub", 6)
    host = lab.route({"upstream-hash-by": "$http_x-user", "upstream-hash-by-subset": "true", "upstream-hash-by-subset-size": "2"},
                     backend="sub")
    groups = set()
    for user in range(12):
        seen = {lab.get(host, headers={"x-user": str(user)}).body for _ in range(16)}
        assert len(seen) == 2
        groups.add(frozenset(seen))
    assert 2 <= len(groups) <= 3
    for backend in backends:
        backend.stop()


# --- TLS to the service


def test_upstream_tls(lab):
    authority = Authority()
    pair = authority.issue("internal.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, pair)
    seen = []
    backend = Backend(lambda r, c: (seen.append((c.socket.version(), c.socket.cipher()[0])), simple_response(b"tls"))[1], context=context)
    for i, (annotations, status, expected) in enumerate([
            ({}, 200, ("TLSv1.3", None)),
            ({"proxy-ssl-protocols": "TLSv1.1 TLSv1.2"}, 200, ("TLSv1.2", None)),
            ({"proxy-ssl-protocols": "TLSv1.2", "proxy-ssl-ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"}, 200,
             ("TLSv1.2", "AES256-GCM-SHA384")),
            ({"proxy-ssl-verify": "on"}, 503, None)]):
        backend_service(lab, f"secure{i}", backend)
        host = lab.route({"backend-protocol": "HTTPS", **annotations}, backend=f"secure{i}")
        assert lab.get(host).status == status, annotations
        if expected:
            version, cipher = seen[-1]
            assert version == expected[0] and (not expected[1] or cipher.endswith(expected[1]))
    backend.stop()


def test_upstream_verify_depth(lab):
    root = Authority("Root", levels=2)
    middle = Authority("Middle", above=root, levels=1)
    lower = Authority("Lower", above=middle)
    certificate, key = lower.issue("internal.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, (certificate + lower.pem + middle.pem, key))
    backend = Backend(context=context)
    lab.give("depth-ca", opaque_secret("depth-ca", namespace="default", ca_crt=root.pem))
    for depth, status in (("1", 503), ("2", 200), ("", 200)):
        backend_service(lab, f"depth{depth}", backend)
        host = lab.route({"backend-protocol": "HTTPS", "proxy-ssl-secret": "depth-ca", "proxy-ssl-verify": "on",
                          "proxy-ssl-server-name": "on", "proxy-ssl-name": "internal.test",
                          **({"proxy-ssl-verify-depth": depth} if depth else {})}, backend=f"depth{depth}")
        assert lab.get(host).status == status, depth
    backend.stop()


def test_http_1_0_to_the_service(lab):
    """One request per connection, without chunks; the body's length is found out if it is not stated."""
    def handler(request, connection):
        connection.send(b"HTTP/1.0 200 OK\r\nX-Length: %d\r\n\r\nuntil the end" % len(request.body))
        connection.socket.close()
    with Backend(handler) as backend:
        backend_service(lab, "old", backend)
        host = lab.route({"proxy-http-version": "1.0"}, backend="old")
        with lab.gateway.connect() as client:
            for body, headers in ((None, {}), (b"x" * 100, {}), (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
                                  (b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", {"Transfer-Encoding": "chunked"}),
                                  (b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})):
                client.request("POST" if body else "GET", "/", host=host, headers=headers, body=body)
                answer = client.response()  # the client's connection is kept
                assert answer.status == 200 and answer.body == b"until the end"
                request = backend.requests[-1]
                assert b" HTTP/1.0\r\n" in request.raw_head and request.header("connection") == "close"
                assert request.header("transfer-encoding") is None
                expected = {None: None, b"x" * 100: "100"}.get(body, {b"5": "11", b"3": "3", b"0": "0"}.get((body or b"")[:1]))
                assert request.header("content-length") == expected and answer.header("x-length") == (expected or "0")
            client.request("POST", "/", host=host, headers={"Transfer-Encoding": "chunked", "Expect": "100-continue"}, body=b"")
            assert client.response_head().status == 100
            client.send(b"2\r\nok\r\n0\r\n\r\n")
            assert client.response().header("x-length") == "2"
            client.request("POST", "/", host=host, headers={"Transfer-Encoding": "chunked"}, body=b"")
            count = len(backend.requests)
            for _ in range(40):
                client.send(b"8000\r\n" + b"y" * 0x8000 + b"\r\n")
            assert client.response_head().status == 413 and len(backend.requests) == count
        assert len(backend.connections) == len(backend.requests)
        host = lab.route({"proxy-http-version": "1.1"}, backend="old")
        assert lab.get(host).status == 200 and b" HTTP/1.1\r\n" in backend.requests[-1].raw_head


# --- hosts


def over_tls(lab, host, context=None, path="/"):
    """(the response, the names of the certificate that was shown, the cipher suite)"""
    context = context or lab.authority.client_context()
    with lab.gateway.connect(tls=True, context=context, server_hostname=host) as client:
        names = {value for _, value in client.socket.getpeercert()["subjectAltName"]}
        client.request("GET", path, host=host)
        return client.response(), names, client.socket.cipher()[0]


def test_tls_of_aliases_and_www(lab):
    """The certificate of spec.tls is the alias's and the www host's too; the redirect keeps https."""
    host = lab.host()
    pair = lab.authority.issue(host, "a." + host, "*.w." + host, "www." + host)
    lab.give("alias-cert", tls_secret("alias-cert", pair, namespace="default"))
    lab.apply(host, lab.ingress(host, {"server-alias": f"a.{host}, *.w.{host}", "from-to-www-redirect": "true"}, tls="alias-cert"))
    for name in (host, "a." + host, "q.w." + host):
        answer, names, _ = over_tls(lab, name)
        assert answer.body == b"base" and host in names
    answer, names, _ = over_tls(lab, "www." + host, path="/p?q=1")
    assert (answer.status, answer.header("location")) == (308, f"https://{host}/p?q=1") and host in names
    assert lab.get("www." + host, "/p").header("location") == f"http://{host}/p"
    # An alias that has rules of its own shows its own certificate.
    own = lab.authority.issue("a." + host)
    lab.give("own-cert", tls_secret("own-cert", own, namespace="default"))
    lab.apply("alias-tls", lab.ingress("a." + host, {}, "next", name="alias-tls", created=9, tls="own-cert"))
    answer, names, _ = over_tls(lab, "a." + host)
    assert answer.body == b"next" and names == {"a." + host}
    lab.apply("alias-tls", lab.ingress("gone." + host, {}, "next", name="alias-tls", created=9))
    assert over_tls(lab, "a." + host)[0].body == b"base"


def test_cipher_suites(lab):
    host = lab.host()
    lab.give("cipher-cert", tls_secret("cipher-cert", lab.authority.issue(host), namespace="default"))
    short, long, chacha = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")

    def chosen(annotations, *offered):
        lab.apply(host, lab.ingress(host, annotations, tls="cipher-cert"))
        context = lab.authority.client_context(maximum=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(":".join(offered))
        return over_tls(lab, host, context)[2]
    assert chosen({"ssl-ciphers": long}, short, long) == long
    assert chosen({"ssl-ciphers": f"{chacha}:RC4"}, short, long, chacha) == chacha
    with pytest.raises((ssl.SSLError, ConnectionError)):
        chosen({"ssl-ciphers": long}, short)
    order = {"ssl-ciphers": f"{long}:{short}"}
    assert chosen(order, short, long) == long
    assert chosen({**order, "ssl-prefer-server-ciphers": "true"}, short, long) == long
    assert chosen({**order, "ssl-prefer-server-ciphers": "false"}, short, long) == short


def test_server_alias(lab):
    host = lab.host()
    lab.apply(host, lab.ingress(host, {"server-alias": f"a.{host}, *.w.{host}, ~^x, bad_name!"}),
              lab.ingress(host, {"canary": "true", "canary-by-header": "x-c"}, "next", name="alias-canary", created=5))
    assert lab.get("a." + host).body == b"base" and lab.get("q.w." + host).body == b"base"
    assert lab.get("a." + host, headers={"x-c": "always"}).body == b"next"
    assert "is ignored" in lab.messages(host)
    # A host with rules of its own wins, whatever its age; it comes and goes.
    lab.apply("alias-own", lab.ingress("a." + host, {}, "third", name="alias-own", created=9))
    assert lab.get("a." + host).body == b"third"
    assert "has rules of its own" in lab.messages(host)
    lab.apply("alias-own", lab.ingress("unused." + host, {}, "third", name="alias-own", created=9))
    assert lab.get("a." + host).body == b"base" and "has rules of its own" not in lab.messages(host)


def test_from_to_www(lab):
    host = lab.route({"from-to-www-redirect": "true"})
    answer = lab.get("www." + host, "/p?q=1")
    assert (answer.status, answer.header("location")) == (308, f"http://{host}/p?q=1")
    assert lab.get(host).body == b"base"
    other = "www." + lab.host()
    lab.apply(other, lab.ingress(other, {"from-to-www-redirect": "true"}))
    assert lab.get(other[4:]).header("location") == f"http://{other}/"


# --- responses


def test_redirects_and_cookies_of_the_service(lab):
    def handler(request, connection):
        return simple_response(b"x", headers=["location: http://in:8080/a/b", "set-cookie: a=1; Domain=in.test; Path=/app/x",
                                              "set-cookie: b=2; Path=/app/"])
    backend = Backend(handler)
    backend_service(lab, "chatty", backend)
    host = lab.route({"proxy-redirect-from": "http://in:8080/", "proxy-redirect-to": "https://$host/", "proxy-cookie-path": "/app/ /",
                      "proxy-cookie-domain": "in.test out.test"}, backend="chatty")
    answer = lab.get(host)
    assert answer.header("location") == f"https://{host}/a/b"
    cookies = [value for name, value in answer.headers if name.lower() == "set-cookie"]
    assert cookies == ["a=1; Domain=out.test; Path=/x", "b=2; Path=/"]
    host = lab.route({"proxy-redirect-from": r"~^http://in:\d+/(\w)/", "proxy-redirect-to": "/$1-"}, backend="chatty")
    assert lab.get(host).header("location") == "/a-b"
    host = lab.route({"proxy-redirect-from": "off", "proxy-redirect-to": "x", "proxy-cookie-path": "off"}, backend="chatty")
    assert lab.get(host).header("location") == "http://in:8080/a/b"
    backend.stop()


def test_redirect_code_and_interception(lab):
    host = lab.route({"temporal-redirect": "https://n.test", "temporal-redirect-code": "307"})
    assert lab.get(host).status == 307
    errors = {"default-backend": "fallback", "custom-http-errors": "404"}
    assert lab.get(lab.route(errors), "/status/404").body == b"fallback"
    assert lab.get(lab.route({**errors, "disable-proxy-intercept-errors": "true"}), "/status/404").status == 404


def test_mirror_host_and_body(lab):
    host = lab.route({"mirror-target-service": "shadow", "mirror-host": "copy.test", "mirror-request-body": "off"})
    lab.seen.clear()
    assert lab.get(host, method="POST", body=b"hello").status == 200
    wait_until(lambda: any(name == "shadow" for name, _ in lab.seen), 3)
    copy = next(request for name, request in lab.seen if name == "shadow")
    assert copy.header("host") == "copy.test" and copy.body == b"" and copy.method == "POST"


# --- snippets


SNIPPET = """
# what people write
more_set_headers "X-Frame-Options: DENY" "server-info:";
add_header X-Seen $arg_seen;
add_header X-Always yes always;
proxy_set_header X-Forwarded-User $http_x_user;
proxy_set_header Host inner.test;
proxy_hide_header x-internal;
if ($request_method = TRACE) { return 405; }
if ($http_user_agent ~* "badbot") { return 403 "go away"; }
if ($arg_old) { return 301 https://$host/new; }
rewrite ^/a/(\\d+)$ /b/$1 last;
rewrite ^/gone$ /there redirect;
location ~ /[.]git { deny all; }
"""


@pytest.mark.parametrize("key", ["configuration-snippet", "server-snippet"])
def test_snippet(lab, key):
    host = lab.route({key: SNIPPET.replace("\\\\", "\\")})
    assert lab.messages(host) == ""
    answer = lab.get(host, "/?seen=1", headers={"x-user": "me"})
    assert answer.status == 200 and answer.header("x-frame-options") == "DENY"
    assert answer.header("x-seen") == "1" and answer.header("x-internal") is None
    assert lab.last().header("x-forwarded-user") == "me" and lab.last().header("host") == "inner.test"
    assert lab.get(host, "/status/500").header("x-seen") is None
    assert lab.get(host, "/status/500").header("x-always") == "yes"
    assert lab.get(host, method="TRACE").status == 405
    answer = lab.get(host, headers={"user-agent": "BadBot/1"})
    assert (answer.status, answer.body) == (403, b"go away")
    assert lab.get(host, "/?old=1").header("location") == f"https://{host}/new"
    assert lab.get(host, "/a/7?q").status == 200 and lab.last().path == "/b/7?q"
    answer = lab.get(host, "/gone?x=1")
    assert (answer.status, answer.header("location")) == (302, "/there?x=1")
    assert lab.get(host, "/.git/config").status == 403


def test_snippet_allow_and_deny(lab):
    assert lab.get(lab.route({"configuration-snippet": "allow 127.0.0.1; deny all;"})).status == 200
    assert lab.get(lab.route({"configuration-snippet": "deny 127.0.0.1; allow all;"})).status == 403
    host = lab.route({"configuration-snippet": "allow 10.0.0.0/8; deny all;"})
    assert lab.get(host).status == 403 and lab.get(host).header("x-internal") is None


def test_snippet_tells_what_it_cannot(lab):
    host = lab.route({"configuration-snippet": "proxy_cache x;\nadd_header a b;\nset $y 1;", "stream-snippet": "x;"})
    told = lab.messages(host)
    assert "line 1: proxy_cache can't be translated; line 3: set can't be translated" in told and "stream-snippet]: has no effect" in told
    assert lab.get(host).header("a") == "b"
    for text in ("deny nonsense;", "auth_basic x;", "deny all", "if (-f $x) { return 403; }"):
        host = lab.route({"configuration-snippet": text})
        assert lab.get(host).status == 503 and "line 1: " in lab.messages(host), text


def test_snippet_and_canary(lab):
    """The snippet of the base holds for its canary too."""
    host = lab.host()
    lab.apply(host, lab.ingress(host, {"configuration-snippet": "if ($arg_x = 1) { return 403; } add_header a b;"}),
              lab.ingress(host, {"canary": "true", "canary-by-header": "x-c"}, "next", name="snippet-canary", created=5))
    answer = lab.get(host, headers={"x-c": "always"})
    assert answer.body == b"next" and answer.header("a") == "b"
    assert lab.get(host, "/?x=1", headers={"x-c": "always"}).status == 403


def test_mirror_target(lab):
    lab.seen.clear()
    shadow = lab.backends["shadow"]
    for target, path in [(f"http://localhost:{shadow.port}$request_uri", "/p?q=1"), (f"http://localhost:{shadow.port}/m/$host/$arg_q", None)]:
        host = lab.route({"mirror-target": target})
        wait_until(lambda: lab.get(host, "/p?q=1").status == 200, 3)
        wait_until(lambda: (lab.get(host, "/p?q=1"), any(name == "shadow" for name, _ in lab.seen))[1], 5)
        copy = next(request for name, request in reversed(lab.seen) if name == "shadow")
        assert copy.header("host") == "localhost" and copy.path == (path or f"/m/{host}/1")
        lab.seen.clear()


def test_hash_by_several_variables(lab):
    backends, _ = pods(lab, "composite", 4)
    host = lab.route({"upstream-hash-by": "$host-$arg_a-$http_x_b"}, backend="composite")
    seen = set()
    for a in range(8):
        for b in range(4):
            answers = {lab.get(host, f"/x{n}?a={a}", headers={"x-b": str(b)}).body for n in range(3)}
            assert len(answers) == 1
            seen |= answers
    assert len(seen) == 4
    for backend in backends:
        backend.stop()


# --- sluice.io/compat


def test_compat_canary(lab):
    host = lab.host()
    canary = {"canary": "true", "canary-by-header": "x-c", "canary-by-cookie": "beta", "canary-weight": "100", "sluice.io/compat": "nginx"}
    lab.apply(host, lab.ingress(host), lab.ingress(host, canary, "next", name="compat-canary", created=5))
    for headers, body in [({}, b"next"), ({"x-c": "always"}, b"next"), ({"x-c": "never"}, b"base"), ({"cookie": "beta=never"}, b"base"),
                          ({"x-c": "always", "cookie": "beta=never"}, b"next"), ({"x-c": "other", "cookie": "beta=never"}, b"base")]:
        assert lab.get(host, headers=headers).body == body, headers
    canary = {"canary": "true", "canary-by-header": "x-c", "canary-by-header-value": "a.c", "sluice.io/compat": "nginx"}
    lab.apply(host, lab.ingress(host), lab.ingress(host, canary, "next", name="compat-canary", created=5))
    assert [lab.get(host, headers={"x-c": v}).body for v in ("a.c", "abc", "always")] == [b"next", b"base", b"base"]


def test_compat_paths(lab):
    nginx = {"sluice.io/compat": "nginx"}
    host = lab.route({"use-regex": "true", **nginx}, path="/foo/[A-Z]+", path_type="ImplementationSpecific")
    assert lab.get(host, "/FOO/abc").status == 200
    host = lab.route({"rewrite-target": "/x", **nginx}, path="/p")
    assert lab.get(host, "/p/y").status == 200 and lab.last().path == "/x"
    for annotations, status in [(nginx, 200), ({}, 404)]:
        host = lab.route(annotations, path="/a.b", path_type="ImplementationSpecific")
        assert [lab.get(host, p).status for p in ("/a.b", "/a.bc", "/axb")] == [200, status, 404]


def test_compat_cors(lab):
    preflight = {"origin": "http://o.test", "access-control-request-method": "PUT"}
    host = lab.route({"enable-cors": "true", "sluice.io/compat": "nginx"})
    assert "If-Modified-Since" in lab.get(host, method="OPTIONS", headers=preflight).header("access-control-allow-headers")


def test_compat_regex_of_the_host(lab):
    """Where one Ingress of a host makes its paths regular expressions, those of the others are too."""
    host = lab.host()
    nginx = {"sluice.io/compat": "nginx"}
    others = [lab.ingress(host, nginx, "next", "/plain", name="re-plain", created=2),
              lab.ingress(host, nginx, "third", "/exact", "Exact", name="re-exact", created=3),
              lab.ingress(host, {}, "fallback", "/other", name="re-other", created=4),
              lab.ingress(host, {**nginx, "canary": "true", "canary-by-header": "x-c"}, "shadow", "/plain", name="re-canary", created=5)]

    def bodies():
        return [lab.get(host, path).body if lab.get(host, path).status == 200 else None
                for path in ("/plain/x", "/plainer", "/PLAIN", "/exact", "/exact/more", "/other/x", "/otherwise")]
    lab.apply(host, lab.ingress(host, {**nginx}, path="/r[0-9]"), *others)
    assert bodies() == [b"next", None, None, b"third", None, b"fallback", None]
    lab.apply(host, lab.ingress(host, {**nginx, "use-regex": "true"}, path="/r[0-9]"), *others)
    assert bodies() == [b"next", b"next", b"next", b"third", b"third", b"fallback", None]
    assert lab.get(host, "/R7").body == b"base" and lab.get(host, "/plainer", headers={"x-c": "always"}).body == b"shadow"
    lab.apply(host, *others)
    assert bodies() == [b"next", None, None, b"third", None, b"fallback", None]


def test_compat_ssl_redirect(lab):
    """nginx redirects to https where the host has a certificate, unless it is told not to."""
    pair = lab.authority.issue("x.test")
    lab.give("compat-cert", tls_secret("compat-cert", pair, namespace="default"))

    def status(annotations, **options):
        return lab.get(lab.route({"sluice.io/compat": "nginx", **annotations}, **options)).status
    assert status({}, tls="compat-cert") == 308 and status({}) == 200
    assert status({"ssl-redirect": "false"}, tls="compat-cert") == 200
    assert status({"ssl-redirect": "true"}) == 200 and status({"ssl-redirect": "true"}, tls="compat-cert") == 308
    assert status({"force-ssl-redirect": "true"}) == 308
    assert status({"temporal-redirect": "http://x.test/"}, tls="compat-cert") == 302
    assert lab.get(lab.route({}, tls="compat-cert")).status == 200  # Higress does not
    host = lab.host()
    lab.give("tls-cert", tls_secret("tls-cert", lab.authority.issue(host), namespace="default"))
    lab.apply(host, lab.ingress(host, {"sluice.io/compat": "nginx"}, tls="tls-cert"))
    assert over_tls(lab, host)[0].status == 200  # over https is none


def test_compat_next_upstream(lab):
    """tries counts the first one; timeout is for all of them."""
    times = []

    def refuse(request, connection):
        times.append(time.monotonic())
        time.sleep(0.7)
        return simple_response(status="503 X")
    with Backend(refuse) as backend:
        backend_service(lab, "refusing", backend)

        def tries(compat, **annotations):
            times.clear()
            host = lab.route({"sluice.io/compat": compat, "proxy-next-upstream": "http_503",
                              **{key.replace("_", "-"): value for key, value in annotations.items()}}, backend="refusing")
            assert lab.get(host).status == 503
            return len(times)
        assert tries("nginx", proxy_next_upstream_tries="2") == 2 and tries("higress", proxy_next_upstream_tries="2") == 3
        assert tries("nginx", proxy_next_upstream_tries="4", proxy_next_upstream_timeout="1") == 2
        assert tries("nginx", proxy_next_upstream_tries="1") == 1


def test_compat_default_backend(lab):
    """The default backend is told what it takes over from."""
    names = ("x-code", "x-format", "x-original-uri", "x-namespace", "x-ingress-name", "x-service-name", "x-service-port")
    for compat in ("nginx", "higress"):
        host = lab.route({"sluice.io/compat": compat, "default-backend": "fallback", "custom-http-errors": "404"})
        assert lab.get(host, "/status/404?q=1", headers={"accept": "text/html", "x-code": "7"}).body == b"fallback"
        request = lab.last()
        told = [request.header(name) for name in names]
        if compat == "nginx":
            assert told == ["404", "text/html", "/status/404?q=1", "default", host.replace(".", "-"), "base", "80"]
            assert request.header("x-request-id")
        else:
            assert told == ["7"] + [None] * 6
        host = lab.route({"sluice.io/compat": compat, "default-backend": "fallback"}, backend="empty")
        assert lab.get(host, "/any").body == b"fallback"
        assert lab.last().header("x-service-name") == ("empty" if compat == "nginx" else None)
        assert lab.last().header("x-code") == ("503" if compat == "nginx" else None)


def test_compat_for_all(start_gateway, start_backend):
    """The Ingress's own word, then higress-config's, then the flag's; live."""
    backend = start_backend()

    def rule(name, **annotations):
        return json.dumps({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {
            "name": name, "namespace": "default", "annotations": {"nginx.ingress.kubernetes.io/use-regex": "true", **annotations}},
            "spec": {"ingressClassName": "higress", "rules": [{"host": f"{name}.test", "http": {"paths": [{
                "path": "/a[0-9]", "pathType": "ImplementationSpecific",
                "backend": {"service": {"name": "be", "port": {"number": 80}}}}]}}]}}) + "\n"

    def options(compat):
        return manifest("ConfigMap", "higress-config", namespace="higress-system", data={"higress": f"sluice: {{compat: {compat}}}\n"})
    text = "".join([service("be", 80, backend.port), "---\n", rule("silent"), "---\n",
                    rule("nginx", **{"sluice.io/compat": "nginx"}), "---\n", rule("higress", **{"sluice.io/compat": "higress"})])

    def any_case(gateway):  # whose paths are matched in any case: those with nginx's meaning
        return [name for name in ("silent", "nginx", "higress") if gateway.get("/A1", host=name + ".test").status == 200]
    gateway = start_gateway(text)
    assert any_case(gateway) == ["nginx"]
    gateway.apply("options.yaml", options("nginx"))
    assert any_case(gateway) == ["silent", "nginx"]
    before = gateway.version()
    gateway.write("options.yaml", options("envoy"))
    wait_until(lambda: "is not one of higress, nginx" in gateway.admin("/objects"))
    assert any_case(gateway) == ["silent", "nginx"] and gateway.version() == before  # the previous options stay
    gateway.apply("options.yaml", options("higress"))
    assert any_case(gateway) == ["nginx"]
    gateway = start_gateway(text, "--compat", "nginx")
    assert any_case(gateway) == ["silent", "nginx"]
    gateway.apply("options.yaml", options("higress"))
    assert any_case(gateway) == ["nginx"]


# --- accepted, and what can't be understood


ACCEPTED = {
    "fastcgi-index": "index.php",
    "fastcgi-params-configmap": "a/b",
}


def test_accepted(lab):
    host = lab.route(ACCEPTED)
    assert lab.get(host).status == 200 and lab.messages(host) == ""
    for key in ACCEPTED:
        assert NGINX_ROWS[key][2] == "accepted"


MALFORMED = {
    "server-snippet": ("return 200", "is not ended by ;"),
    "configuration-snippet": ("if ($host = x) {", "a block is not closed by }"),
    "proxy-redirect-from": ("~(", '"(" is not a regular expression'),
    "proxy-redirect-to": ("$nope", '"$nope" is not a variable'),
    "sluice.io/filters": ("{x", "syntax error"),
    "sluice.io/upstream": ("{x: 1}", "x: unknown field"),
    "ssl-passthrough": ("x", '"x" is not true or false'),
    "sluice.io/compat": ("envoy", '"envoy" is not one of higress, nginx'),
    "proxy-connect-timeout": ("5s", '"5s" is not a whole number'),
    "proxy-read-timeout": ("0", '"0" is not in 1..86400'),
    "proxy-send-timeout": ("x", '"x" is not a whole number'),
    "proxy-http-version": ("2", '"2" is not one of 1.0, 1.1'),
    "proxy-ssl-ciphers": ("RC4", '"RC4" is ignored'),
    "proxy-ssl-protocols": ("TLSv9", '"TLSv9" is not one of TLSv1.2, TLSv1.3'),
    "proxy-ssl-verify-depth": ("0", '"0" is not in 1..100'),
    "service-upstream": ("yes", '"yes" is not true or false'),
    "upstream-hash-by-subset": ("yes", '"yes" is not true or false'),
    "upstream-hash-by-subset-size": ("0", '"0" is not in 1..10000'),
    "session-cookie-domain": ("a b", '"a b" is not a domain'),
    "session-cookie-samesite": ("x", '"x" is not one of None, Lax, Strict'),
    "session-cookie-secure": ("x", '"x" is not true or false'),
    "session-cookie-conditional-samesite-none": ("x", '"x" is not true or false'),
    "session-cookie-change-on-failure": ("x", '"x" is not true or false'),
    "server-alias": ("~x", '"~x" is ignored: a regular expression can\'t be a host'),
    "from-to-www-redirect": ("x", '"x" is not true or false'),
    "ssl-ciphers": ("RC4", '"RC4" is ignored'),
    "ssl-prefer-server-ciphers": ("x", '"x" is not true or false'),
    "temporal-redirect-code": ("200", '"200" is not one of 301, 302'),
    "proxy-cookie-domain": ("a", '"a" is not "off" or two texts'),
    "proxy-cookie-path": ("a b c", '"a b c" is not "off" or two texts'),
    "disable-proxy-intercept-errors": ("x", '"x" is not true or false'),
    "mirror-target": ("x", '"x" is not an http or https URL'),
    "mirror-host": ("a/b", '"a/b" is not a host'),
    "mirror-request-body": ("true", '"true" is not on or off'),
}


# Without these it has no effect.
WITH = {"proxy-redirect-to": {"proxy-redirect-from": "http://x/"}}


def test_malformed_values(lab):
    hosts = {key: lab.host() for key in MALFORMED}
    lab.apply("malformed", *[lab.ingress(hosts[key], {**WITH.get(key, {}), full(key): value, "response-header-control-add": "x-other works"})
                             for key, (value, _) in MALFORMED.items()])
    for key, (_, message) in MALFORMED.items():
        told = lab.messages(hosts[key])
        blamed = next(iter(WITH.get(key, {key: ""})))
        assert f"metadata.annotations[{full(blamed)}]: " in told and message in told, (key, told)
        answer = lab.get(hosts[key])
        if key in NGINX_ROWS and NGINX_ROWS[key][3]:
            assert answer.status == 503, key
        else:
            assert answer.status == 200 and answer.header("x-other") == "works", key
