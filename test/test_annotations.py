"""Every annotation of Higress in the real binary: what it does, what becomes of a value that can't be understood, and how it
goes with a canary. One gateway serves all; each test brings its own host and changes the configuration live."""

import base64
import collections
import json
import pathlib
import re
import ssl
import subprocess
import time
import warnings

import pytest

from harness import Backend, Gateway, bridge, documents, simple_response, wait_until
from peers import Authority, H2Backend, manifest, opaque_secret, service, tls_secret

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt  # noqa: E402

GUIDE = pathlib.Path(__file__).resolve().parent.parent / "docs/guide/annotations.md"
NGINX = "nginx.ingress.kubernetes.io/"
HIGRESS = "higress.io/"


def guide_rows(section):
    """key → (prefix, applies to, status, closes) of a table of the guide."""
    text = GUIDE.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) > 7 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = (cells[2].strip("`"), cells[3], cells[6], "Not valid: 503" in cells[7])
    return rows


HIGRESS_ROWS = guide_rows("Higress's annotations")
NGINX_ROWS = guide_rows("Further annotations of ingress-nginx")


def full(key):
    """The key with a prefix that is read."""
    if "/" in key:
        return key
    rows = {**HIGRESS_ROWS, **NGINX_ROWS}
    row = rows.get(key) or next(row for known, row in rows.items() if known.endswith("*") and key.startswith(known[:-1]))
    return (HIGRESS if row[0].startswith("higress") else NGINX) + key


class Lab:
    """The gateway, its services, and what they saw."""

    def __init__(self, directory):
        self.directory = directory
        self.gateway = Gateway(directory / "conf")
        self.seen = []  # (service, request), in order
        self.backends = {}
        self.authority = Authority()
        self.counter = 0
        self.canary = False

    def start(self):
        registries = {}
        for name in ("base", "next", "third", "fallback", "shadow"):
            backend = self.backends[name] = Backend(lambda r, c, name=name: self.answer(name, r))
            self.gateway.write(f"service-{name}.yaml", service(name, 80, backend.port))
            registries[f"{name}-reg"] = backend.address
        self.gateway.write("bridge.yaml", bridge(**registries))
        self.gateway.write("empty.yaml", service("empty", 80, 1, addresses=()))
        self.gateway.start()
        return self

    def answer(self, name, request):
        self.seen.append((name, request))
        if match := re.match(r"/status/(\d+)", request.path):
            return simple_response(name.encode(), status=f"{match[1]} X")
        if match := re.match(r"/delay/(\d+)", request.path):
            time.sleep(int(match[1]) / 1000)
        return simple_response(name.encode(), headers=["x-internal: 1"])

    def stop(self):
        self.gateway.stop()
        for backend in self.backends.values():
            backend.stop()

    def host(self):
        self.counter += 1
        return f"h{self.counter}.test"

    def apply(self, name, *texts):
        self.gateway.apply(name + ".yaml", documents(*texts))

    def give(self, name, *texts):
        """Objects that nothing refers to yet: no new snapshot comes of them."""
        self.gateway.write(name + ".yaml", documents(*texts))

    def ingress(self, host, annotations=None, backend="base", path="/", path_type="Prefix", name=None, created=1, tls=None,
                paths=None):
        """The text of an Ingress; keys of annotations may lack their prefix."""
        def target(service_name):
            if service_name == "resource":
                return {"resource": {"apiGroup": "networking.higress.io", "kind": "McpBridge", "name": "default"}}
            return {"service": {"name": service_name, "port": {"number": 80}}}
        rule = {"host": host, "http": {"paths": [{"path": p, "pathType": t, "backend": target(b)}
                                                 for p, t, b in (paths or [(path, path_type, backend)])]}}
        spec = {"ingressClassName": "higress", "rules": [rule]}
        if tls:
            spec["tls"] = [{"hosts": [host], "secretName": tls}]
        document = json.loads(manifest("Ingress", name or host.replace(".", "-"), spec, api="networking.k8s.io/v1",
                                       annotations={full(k): v for k, v in (annotations or {}).items()}))
        document["metadata"]["creationTimestamp"] = f"2024-01-01T00:00:{created:02d}Z"
        return json.dumps(document) + "\n"

    def route(self, annotations=None, more=(), **options):
        """A new host with one Ingress. In the canary pass, with a canary by header, through which everything is sent."""
        host = self.host()
        texts = [self.ingress(host, annotations, **options), *more]
        if self.canary:
            matching = {k: v for k, v in (annotations or {}).items()
                        if re.search(r"match-|regex|rewrite-target|ignore-path-case|match-method|header-control", k)}
            options = {**options, "backend": "next", "name": host.replace(".", "-") + "-canary", "created": 9}
            if "paths" in options:
                options["paths"] = [(p, t, "next") for p, t, _ in options["paths"]]
            texts.append(self.ingress(host, {**matching, "canary": "true", "canary-by-header": "x-canary"}, **options))
        self.apply(host, *texts)
        return host

    @property
    def service(self):
        return b"next" if self.canary else b"base"

    def get(self, host, path="/", headers=(), **options):
        headers = list(headers.items() if isinstance(headers, dict) else headers)
        if self.canary:
            headers.append(("x-canary", "always"))
        return self.gateway.get(path, host=host, headers=headers, **options)

    def last(self):
        return self.seen[-1][1]

    def messages(self, host):
        name = "Ingress default/" + host.replace(".", "-")
        return "\n".join(message for entry in json.loads(self.gateway.admin("/objects")) if entry["object"] == name
                         for message in entry["messages"])


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("annotations")).start()
    yield lab
    lab.stop()


@pytest.fixture
def lab(shared_lab):
    shared_lab.canary = False
    shared_lab.seen.clear()
    return shared_lab


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


# --- canary


@case("canary", "canary-by-header")
def canary_by_header(lab):
    host = lab.host()
    lab.apply(host, lab.ingress(host), lab.ingress(host, {"canary": "true", "canary-by-header": "X-Canary"}, "next", name="c1"))
    assert lab.get(host).body == b"base"
    assert lab.get(host, headers={"x-canary": "always"}).body == b"next"
    assert lab.get(host, headers={"x-canary": "never"}).body == b"base"
    lab.apply(host, lab.ingress(host), lab.ingress(host, {"canary": "false", "canary-by-header": "X-Canary"}, "next", name="c1",
                                                   path="/own"))
    assert lab.get(host, "/own").body == b"next"  # an ordinary Ingress
    lab.apply(host, lab.ingress(host, {"canary": "true", "canary-by-header": "X-Canary"}, "next", name="c1"))
    assert lab.get(host, headers={"x-canary": "always"}).status == 404  # no base
    assert "the canary has no base" in lab.messages("c1")


@case("canary-by-header-value")
def canary_by_header_value(lab):
    host = lab.host()
    lab.apply(host, lab.ingress(host), lab.ingress(
        host, {"canary": "true", "canary-by-header": "region", "canary-by-header-value": "gz|bj"}, "next", name="c2"))
    for value, body in [("gz", b"next"), ("bj", b"next"), ("always", b"next"), ("gzz", b"base"), ("sh", b"base")]:
        assert lab.get(host, headers={"region": value}).body == body, value


@case("canary-by-header-pattern")
def canary_by_header_pattern(lab):
    host = lab.host()
    lab.apply(host, lab.ingress(host), lab.ingress(
        host, {"canary": "true", "canary-by-header": "user", "canary-by-header-pattern": "test.com|qa"}, "next", name="c3"))
    for value, body in [("test.com", b"next"), ("test.com.abc", b"next"), ("xqax", b"next"), ("test.org", b"base")]:
        assert lab.get(host, headers={"user": value}).body == body, value


@case("canary-by-cookie")
def canary_by_cookie(lab):
    host = lab.host()
    lab.apply(host, lab.ingress(host), lab.ingress(host, {"canary": "true", "canary-by-cookie": "beta"}, "next", name="c4"))
    for cookie, body in [("beta=always", b"next"), ("a=1; beta=always; b=2", b"next"), ("beta=no", b"base"), ("xbeta=always", b"base")]:
        assert lab.get(host, headers={"Cookie": cookie}).body == body, cookie


@case("canary-weight", "canary-weight-total")
def canary_weight(lab):
    host = lab.host()

    def shares(count=200):
        return collections.Counter(lab.get(host).body for _ in range(count))
    for weight, total, expected in [("0", None, {b"base": 200}), ("100", None, {b"next": 200}), ("7", "7", {b"next": 200})]:
        annotations = {"canary": "true", "canary-weight": weight, **({"canary-weight-total": total} if total else {})}
        lab.apply(host, lab.ingress(host), lab.ingress(host, annotations, "next", name="c5"))
        assert shares() == expected
    lab.apply(host, lab.ingress(host), lab.ingress(host, {"canary": "true", "canary-weight": "500", "canary-weight-total": "1000"},
                                                   "next", name="c5", created=5),
              lab.ingress(host, {"canary": "true", "canary-weight": "250"}, "third", name="c6", created=6))
    found = shares(800)
    assert abs(found[b"next"] - 400) < 80 and abs(found[b"base"] - 200) < 70 and abs(found[b"third"] - 200) < 70


# --- matching


@case("exact-match-header-*", "prefix-match-header-*", "regex-match-header-*", canary=True)
def match_headers(lab):
    host = lab.route({"exact-match-header-a": "1", "prefix-match-header-b": "be", "regex-match-header-c": "x|y+"})
    good = {"a": "1", "b": "bee", "c": "yy"}
    assert lab.get(host, headers=good).body == lab.service
    for wrong in ({"a": "2"}, {"b": "b"}, {"c": "xx"}):
        assert lab.get(host, headers={**good, **wrong}).status == 404
    assert lab.get(host).status == 404


@case("exact-match-pseudo-header-*", "prefix-match-pseudo-header-*", "regex-match-pseudo-header-*", canary=True)
def match_pseudo_headers(lab):
    host = lab.route({"exact-match-pseudo-header-method": "PUT", "prefix-match-pseudo-header-path": "/v3/bar",
                      "regex-match-pseudo-header-authority": r".+\.test"})
    assert lab.get(host, "/v3/bar?x", method="PUT").body == lab.service
    assert lab.get(host, "/v3/bar").status == 404
    assert lab.get(host, "/v3/ba", method="PUT").status == 404


@case("exact-match-query-*", "prefix-match-query-*", "regex-match-query-*", canary=True)
def match_queries(lab):
    host = lab.route({"exact-match-query-a": "1", "prefix-match-query-b": "be", "regex-match-query-c": "*"})
    assert lab.get(host, "/?a=1&b=bee&c").body == lab.service
    for wrong in ("/?a=1&b=bee", "/?a=2&b=bee&c", "/?a=1&b=b&c", "/"):
        assert lab.get(host, wrong).status == 404


@case("match-method", canary=True)
def match_method(lab):
    host = lab.route({"match-method": "post PUT nonsense"})
    assert "is ignored" in lab.messages(host)
    assert [lab.get(host, method=m).status for m in ("POST", "PUT", "GET")] == [200, 200, 404]


@case("use-regex", canary=True)
def use_regex(lab):
    host = lab.route({"use-regex": "true"}, path="/foo/[A-Z0-9]{3}", path_type="ImplementationSpecific")
    assert lab.get(host, "/foo/1234").body == lab.service
    assert lab.get(host, "/foo/12").status == 404


@case("full-path-regex", canary=True)
def full_path_regex(lab):
    host = lab.route({"full-path-regex": "true"}, path="/bar/[A-Z0-9]{3}", path_type="ImplementationSpecific")
    assert lab.get(host, "/bar/123").body == lab.service
    assert lab.get(host, "/bar/1234").status == 404


@case("ignore-path-case", canary=True)
def ignore_path_case(lab):
    host = lab.route({"ignore-path-case": "true"}, paths=[("/foo", "Exact", "base"), ("/cat", "Prefix", "base")])
    assert [lab.get(host, p).status for p in ("/fOO", "/CAT/ok", "/dog")] == [200, 200, 404]


# --- routing


@case("destination")
def destination(lab):
    host = lab.route({"destination": "75% base-reg.static:80\n25% next-reg.static"}, backend="resource")
    found = collections.Counter(lab.get(host).body for _ in range(400))
    assert abs(found[b"base"] - 300) < 60 and abs(found[b"next"] - 100) < 60


@case("rewrite-target", canary=True)
def rewrite_target(lab):
    host = lab.route({"rewrite-target": "/$1"}, path="/svc/(.*)")
    assert lab.get(host, "/svc/foo?q=1").body == lab.service and lab.last().path == "/foo?q=1"
    host = lab.route({"rewrite-target": "/x"}, path="/p")
    assert lab.get(host, "/p/y").status == 200 and lab.last().path == "/x/y"


@case("rewrite-path", canary=True)
def rewrite_path(lab):
    host = lab.route({"rewrite-path": "/api", "rewrite-target": "/unused"}, path="/p")
    for path, want in [("/p", "/api"), ("/p/y?q", "/api/y?q")]:
        assert lab.get(host, path).body == lab.service and lab.last().path == want


@case("upstream-vhost", canary=True)
def upstream_vhost(lab):
    host = lab.route({"upstream-vhost": "inner.example"})
    assert lab.get(host).body == lab.service
    assert lab.last().header("host") == "inner.example" and lab.last().header("x-envoy-original-host") == host


@case("app-root")
def app_root(lab):
    host = lab.route({"app-root": "/foo"})
    assert (lab.get(host).status, lab.get(host).header("location")) == (302, f"http://{host}/foo")
    assert lab.get(host, "/bar").status == 200


@case("temporal-redirect", canary=True)
def temporal_redirect(lab):
    host = lab.route({"temporal-redirect": "https://bar.com", "permanent-redirect": "http://x.y"})
    answer = lab.get(host, "/p?q=1")
    assert (answer.status, answer.header("location")) == (302, "https://bar.com/p?q=1")


@case("permanent-redirect", "permanent-redirect-code", canary=True)
def permanent_redirect(lab):
    for annotations, status in [({}, 301), ({"permanent-redirect-code": "308"}, 308), ({"permanent-redirect-code": "304"}, 301)]:
        host = lab.route({"permanent-redirect": "http://bar.com/x", **annotations})
        answer = lab.get(host, "/p?q=1")
        assert (answer.status, answer.header("location")) == (status, "http://bar.com/x?q=1")


@case("ssl-redirect", "force-ssl-redirect", canary=True)
def ssl_redirect(lab):
    for key in ("ssl-redirect", "force-ssl-redirect"):
        host = lab.route({key: "true"})
        answer = lab.get(host, "/p?q=1")
        assert answer.status == 308 and re.fullmatch(rf"https://{host}(:\d+)?/p\?q=1", answer.header("location"))
        assert lab.get(lab.route({key: "false"})).status == 200


@case("default-backend")
def default_backend(lab):
    host = lab.route({"default-backend": "default/fallback"}, backend="empty")
    assert lab.get(host, "/x", method="POST", body=b"body").body == b"fallback"
    assert lab.last().path == "/x" and lab.last().body == b"body"  # the request as it was
    host = lab.route({"default-backend": "fallback"}, backend="no-such-service")
    assert lab.get(host).body == b"fallback"
    host = lab.route({"default-backend": "fallback"})
    assert lab.get(host).body == b"base"
    host = lab.route({"default-backend": "empty"}, backend="empty")
    assert lab.get(host).status == 503
    host = lab.route({"default-backend": "no-such-service"})
    assert "does not exist" in lab.messages(host) and lab.get(host).status == 200


@case("custom-http-errors", canary=True)
def custom_http_errors(lab):
    host = lab.route({"default-backend": "fallback", "custom-http-errors": "404,500", "proxy-next-upstream": "off"})
    lab.seen.clear()
    answer = lab.get(host, "/status/404", method="POST", body=b"x" * 100000)
    assert answer.status == 200 and answer.body == b"fallback"
    assert [name.encode() for name, _ in lab.seen] == [lab.service, b"fallback"]
    request = lab.last()
    assert (request.method, request.path, request.header("host"), request.body) == ("POST", "/", host, b"")
    assert request.header("x-envoy-fallback-service") == "default/fallback"
    assert request.header("x-envoy-route-name").endswith("-fallback")
    assert lab.get(host, "/status/503").status == 503  # not among them
    with lab.gateway.connect() as client:  # the connection stays good
        for _ in range(3):
            client.request("GET", "/status/500", host=host, headers={"x-canary": "always"} if lab.canary else {})
            assert client.response().body == b"fallback"


def test_fallback_page_while_the_request_is_still_sent(lab):
    """The error comes before the client has sent its body: the fallback answers."""
    with Backend(lambda r, c: simple_response(status="500 X")) as backend:
        backend.lazy_body = True
        host = lab.route({"default-backend": "fallback", "custom-http-errors": "500"}, backend=own_service(lab, backend))
        with lab.gateway.connect() as client:
            client.request("POST", host=host, headers={"Content-Length": "1000000"}, body=b"x" * 1000)
            assert client.response().body == b"fallback"
        for _ in range(20):
            assert lab.get(host).body == b"fallback"


def test_fallback_keeps_the_balance(lab):
    """Looking whether the route's service can serve does not turn the round robin."""
    found = collections.Counter(a.body for a in endpoints_of(
        lab, {"load-balance": "round_robin", "default-backend": "fallback"}, [((), "/")] * 40))
    assert set(found.values()) == {10}


@case("mirror-target-service", "mirror-percentage", canary=True)
def mirror_service(lab):
    host = lab.route({"mirror-target-service": "default/shadow:80"})
    lab.seen.clear()
    answer = lab.get(host, "/m?q=1", method="POST", body=b"payload", headers={"x-a": "1"})
    assert answer.body == lab.service
    wait_until(lambda: any(name == "shadow" for name, _ in lab.seen), 5, "the copy")
    copy = next(request for name, request in lab.seen if name == "shadow")
    assert (copy.method, copy.path, copy.body, copy.header("x-a")) == ("POST", "/m?q=1", b"payload", "1")
    assert copy.header("host") == host + "-shadow"
    host = lab.route({"mirror-target-service": "shadow", "mirror-percentage": "0"})
    lab.seen.clear()
    assert lab.get(host).status == 200
    time.sleep(0.05)
    assert not any(name == "shadow" for name, _ in lab.seen)
    host = lab.route({"mirror-target-service": "nobody"})
    assert "does not exist" in lab.messages(host) and lab.get(host).status == 200


@case("mirror-target-fqdn", "mirror-target-fqdn-port", canary=True)
def mirror_fqdn(lab):
    host = lab.route({"mirror-target-fqdn": "shadow-reg.static", "mirror-target-fqdn-port": "80", "mirror-target-service": "third"})
    lab.seen.clear()
    assert lab.get(host).body == lab.service
    wait_until(lambda: any(name == "shadow" for name, _ in lab.seen), 5, "the copy")
    assert not any(name == "third" for name, _ in lab.seen)


# --- resilience and limits


@case("timeout", canary=True)
def timeout(lab):
    host = lab.route({"timeout": "1"})
    assert lab.get(host, "/delay/100").body == lab.service
    answer = lab.get(host, "/delay/1500")
    assert answer.status == 504 and answer.body == b"upstream request timeout"


@case("proxy-next-upstream", "proxy-next-upstream-tries", "proxy-next-upstream-timeout", canary=True)
def retries(lab):
    def tries(path, annotations, method="GET"):
        host = lab.route(annotations)
        lab.seen.clear()
        lab.get(host, path, method=method)
        return len(lab.seen)
    assert tries("/status/503", {}) == 3  # the default
    assert tries("/status/500", {}) == 1
    assert tries("/status/500", {"proxy-next-upstream": "error", "proxy-next-upstream-tries": "1"}) == 2
    assert tries("/status/503", {"proxy-next-upstream": "off"}) == 1
    assert tries("/status/503", {"proxy-next-upstream-tries": "0"}) == 1
    assert tries("/status/429", {"proxy-next-upstream": "http_429", "proxy-next-upstream-tries": "2"}) == 3
    assert tries("/status/503", {"proxy-next-upstream": "error", "proxy-next-upstream-tries": "1"}, "POST") == 1
    assert tries("/status/503", {"proxy-next-upstream": "error,non_idempotent", "proxy-next-upstream-tries": "1"}, "POST") == 2
    host = lab.route({"proxy-next-upstream-timeout": "1", "proxy-next-upstream-tries": "0"})
    assert lab.get(host, "/delay/1500").status == 504


@case("route-limit-rpm", "route-limit-rps", "route-limit-burst-multiplier", canary=True)
def rate_limit(lab):
    host = lab.route({"route-limit-rpm": "2", "route-limit-rps": "100", "route-limit-burst-multiplier": "2"})
    answers = [lab.get(host) for _ in range(6)]
    assert [a.status for a in answers] == [200] * 4 + [429] * 2
    assert answers[-1].body == b"local_rate_limited" and answers[-1].header("x-local-rate-limit") == "true"
    host = lab.route({"route-limit-rps": "1", "route-limit-burst-multiplier": "1"})
    assert [lab.get(host).status for _ in range(2)] == [200, 429]


# --- access


@case("whitelist-source-range", canary=True)
def whitelist(lab):
    for value, status in [("127.0.0.0/8", 200), ("1.1.1.1", 403), ("1.1.1.1, *", 200), ("::1, 1.1.1.0/24", 403),
                          ("1.1.1.1,nonsense", 403), ("nonsense", 503), ("", 200)]:
        host = lab.route({"whitelist-source-range": value})
        answer = lab.get(host)
        assert answer.status == status, value
        if status == 403:
            assert answer.body == b"RBAC: access denied"


@case("denylist-source-range", "allowlist-source-range", canary=True)
def denylist(lab):
    for value, status in [("127.0.0.0/8", 403), ("1.1.1.1", 200), ("1.1.1.1,x", 503)]:
        assert lab.get(lab.route({"denylist-source-range": value, "allowlist-source-range": "127.0.0.1"})).status == status, value


def basic(name, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@case("auth-type", "auth-secret", "auth-realm", canary=True)
def basic_auth(lab):
    apr1 = subprocess.run(["openssl", "passwd", "-apr1", "apr1-pw"], capture_output=True, text=True, check=True).stdout.strip()
    bcrypt = crypt.crypt("bcrypt-pw", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 5)).replace("$2b$", "$2y$")
    sha512 = crypt.crypt("sha512-pw", crypt.mksalt(crypt.METHOD_SHA512))
    sha1 = "{SHA}" + base64.b64encode(__import__("hashlib").sha1(b"sha1-pw").digest()).decode()
    users = f"# users\nbcrypt:{bcrypt}\napr1:{apr1}\nsha1:{sha1}:a comment\nsha512:{sha512}\r\nplain:plain-pw\nmarked:{{PLAIN}}marked-pw\n"
    secret = opaque_secret("users", namespace="default", auth=users)
    host = lab.route({"auth-type": "basic", "auth-secret": "users", "auth-realm": 'Members "only"'}, more=[secret])
    answer = lab.get(host)
    assert answer.status == 401 and answer.header("www-authenticate") == 'Basic realm="Members \\"only\\""'
    for name in ("bcrypt", "apr1", "sha1", "sha512", "plain", "marked"):
        for _ in range(2):  # the second time from the cache
            answer = lab.get(host, headers=basic(name, name + "-pw"), method="POST", body=b"abc")
            assert answer.body == lab.service and lab.last().body == b"abc", name
            assert lab.get(host, headers=basic(name, "wrong")).status == 401, name
        assert lab.get(host, headers=basic(name, "")).status == 401
    for value in ("Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"no-colon").decode()):
        assert lab.get(host, headers={"Authorization": value}).status == 401
    assert lab.get(host, headers=basic("nobody", "x")).status == 401
    errors = lab.gateway.errors() + lab.gateway.admin("/config_dump")
    assert "plain-pw" not in errors and bcrypt not in errors and apr1 not in errors


def test_expensive_passwords_do_not_hold_up_others(lab):
    """While hashes that take long are computed, the worker answers others; a known user does not wait behind guesses."""
    # About a second each: none of the first is done before the last has come.
    slow = crypt.crypt("right", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 14))
    host = lab.route({"auth-type": "basic", "auth-secret": "slow"}, more=[opaque_secret("slow", namespace="default", auth="ann:" + slow)])
    other = lab.route()
    assert lab.get(host, headers=basic("ann", "right")).status == 200
    guesses = [lab.gateway.connect() for _ in range(80)]
    for number, guess in enumerate(guesses):
        guess.request(host=host, headers=basic("ann", f"guess{number}"))
    assert lab.get(other).status == 200 and lab.get(host, headers=basic("ann", "right")).status == 200
    guesses[63].socket.settimeout(0.001)
    with pytest.raises(TimeoutError):  # the last of those that wait has no answer yet
        guesses[63].fill()
    for guess in guesses[:60]:
        guess.socket.close()  # gives up: the queue empties without its work being done
    statuses = [guess.response().status for guess in guesses[66:]]
    assert statuses == [503] * len(statuses)  # no more may wait
    for guess in guesses:
        guess.socket.close()
    wait_until(lambda: lab.get(host, headers=basic("ann", "wrong")).status == 401, 30, "a free queue")


@case("auth-secret-type", canary=True)
def auth_map(lab):
    host = lab.route({"auth-type": "basic", "auth-secret": "default/users-map", "auth-secret-type": "auth-map"},
                     more=[opaque_secret("users-map", namespace="default", ann="ann-pw")])
    assert lab.get(host, headers=basic("ann", "ann-pw")).body == lab.service
    assert lab.get(host, headers=basic("ann", "no")).status == 401


@case("auth-secret", canary=True)
def auth_fails_closed(lab):
    """Whatever is wrong with authentication, the route is never open; it opens live when that is mended."""
    bad_secret = opaque_secret("bad-users", namespace="default", auth="ann:$9$unknown")
    for annotations in ({"auth-type": "basic", "auth-secret": "missing"}, {"auth-type": "digest", "auth-secret": "missing"},
                        {"auth-type": "basic"}, {"auth-secret": "missing"}, {"auth-type": "basic", "auth-secret": "bad-users"}):
        host = lab.route(annotations, more=[bad_secret])
        assert lab.get(host, headers=basic("ann", "x")).status == 503, annotations
        assert "answer 503" in lab.messages(host), annotations
    assert "$9$" not in lab.gateway.errors()
    host = lab.route({"auth-type": "basic", "auth-secret": f"late{lab.canary:d}"})
    assert lab.get(host).status == 503
    lab.apply(f"late{lab.canary:d}", opaque_secret(f"late{lab.canary:d}", namespace="default", auth="ann:{PLAIN}x"))
    assert lab.get(host).status == 401 and lab.get(host, headers=basic("ann", "x")).status == 200


# --- CORS and headers


@case("enable-cors", "cors-allow-origin", "cors-allow-methods", "cors-allow-headers", "cors-expose-headers",
      "cors-allow-credentials", "cors-max-age", canary=True)
def cors(lab):
    preflight = {"Origin": "https://a.good.com", "Access-Control-Request-Method": "PUT"}
    host = lab.route({"enable-cors": "true"})
    answer = lab.get(host, headers=preflight, method="OPTIONS")
    assert answer.status == 200 and answer.header("access-control-allow-origin") == "https://a.good.com"
    assert answer.header("access-control-allow-credentials") == "true" and answer.header("access-control-max-age") == "1728000"
    host = lab.route({"enable-cors": "true", "cors-allow-origin": "https://*.good.com,http://b.com", "cors-allow-methods": "GET, PUT",
                      "cors-allow-headers": "X-A", "cors-expose-headers": "X-B", "cors-allow-credentials": "false", "cors-max-age": "9"})
    answer = lab.get(host, headers=preflight, method="OPTIONS")
    assert answer.header("access-control-allow-methods") in ("GET,PUT", "GET, PUT")
    assert answer.header("access-control-allow-headers") == "X-A" and answer.header("access-control-max-age") == "9"
    assert answer.header("access-control-allow-credentials") is None
    answer = lab.get(host, headers={"Origin": "http://b.com"})
    assert answer.body == lab.service and answer.header("access-control-expose-headers") == "X-B"
    assert lab.get(host, headers={"Origin": "http://evil.com"}).header("access-control-allow-origin") is None
    host = lab.route({"enable-cors": "false", "cors-max-age": "9"})
    assert lab.get(host, headers={"Origin": "http://b.com"}).header("access-control-allow-origin") is None


@case("request-header-control-add", "request-header-control-update", "request-header-control-remove", canary=True)
def request_headers(lab):
    host = lab.route({"request-header-control-add": 'x-a one\nx-b "two; 2"', "request-header-control-update": "x-c new\nHost inner.example",
                      "request-header-control-remove": "x-d, x-e"})
    assert lab.get(host, headers=[("x-a", "0"), ("x-c", "old"), ("x-d", "1"), ("x-e", "1")]).body == lab.service
    request = lab.last()
    assert request.all("x-a") == ["0", "one"] and request.header("x-b") == "two; 2" and request.all("x-c") == ["new"]
    assert request.header("x-d") is None and request.header("x-e") is None and request.header("host") == "inner.example"


@case("response-header-control-add", "response-header-control-update", "response-header-control-remove", canary=True)
def response_headers(lab):
    host = lab.route({"response-header-control-add": "x-a one", "response-header-control-update": "content-type text/x",
                      "response-header-control-remove": "x-internal"})
    answer = lab.get(host)
    assert answer.header("x-a") == "one" and answer.header("content-type") == "text/x" and answer.header("x-internal") is None


def test_canary_has_its_own_header_edits(lab):
    """By header it replaces its base's; by weight each destination has its own."""
    host = lab.host()
    edits = lambda who: {"request-header-control-add": f"x-by {who}", "response-header-control-add": f"x-by {who}"}
    for how in ({"canary-by-header": "x-canary"}, {"canary-weight": "50"}):
        lab.apply(host, lab.ingress(host, edits("base")), lab.ingress(host, {"canary": "true", **how, **edits("next")}, "next", name="ch"))
        found = set()
        for _ in range(40):
            answer = lab.get(host, headers={"x-canary": "always"})
            assert lab.last().all("x-by") == [answer.body.decode()] and answer.header("x-by") == answer.body.decode()
            found.add(answer.body)
        assert found == ({b"next"} if "canary-by-header" in how else {b"base", b"next"})
    lab.apply(host, lab.ingress(host, edits("base")), lab.ingress(host, {"canary": "true", "canary-by-header": "x-canary"}, "next", name="ch"))
    assert lab.get(host, headers={"x-canary": "always"}).header("x-by") is None


# --- services


def own_service(lab, backend, **options):
    """A service of its own: the options of a service hold for all that use it."""
    lab.counter += 1
    name = f"s{lab.counter}"
    lab.give(name, service(name, 80, backend.port, **options))
    return name


@case("backend-protocol")
def backend_protocol(lab):
    with H2Backend(lambda stream: stream.respond(200, body=b"h2")) as backend:
        for protocol in ("HTTP2", "grpc"):
            host = lab.route({"backend-protocol": protocol}, backend=own_service(lab, backend))
            assert lab.get(host).body == b"h2"
    with Backend(context=lab.authority.server_context("x.y")) as backend:
        assert lab.get(lab.route({"backend-protocol": "HTTPS"}, backend=own_service(lab, backend))).body == b"ok"
    host = lab.route({"backend-protocol": "FCGI"})
    assert "HTTP is used" in lab.messages(host) and lab.get(host).status == 200


@case("proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name", "proxy-ssl-server-name")
def proxy_ssl(lab):
    names = []
    context = lab.authority.server_context("inner.example", client_authority=lab.authority)
    context.sni_callback = lambda socket, name, context: names.append(name)
    pair = lab.authority.issue("client", client=True)
    lab.give("client-secrets", tls_secret("client", pair, ca=lab.authority.pem, namespace="default"),
              tls_secret("other-ca", pair, ca=Authority("Other").pem, namespace="default"))
    with Backend(context=context) as backend:
        host = lab.route({"backend-protocol": "HTTPS", "proxy-ssl-secret": "default/client", "proxy-ssl-verify": "on",
                          "proxy-ssl-name": "inner.example", "proxy-ssl-server-name": "on"}, backend=own_service(lab, backend))
        assert lab.get(host).body == b"ok" and names[-1] == "inner.example"
        host = lab.route({"backend-protocol": "HTTPS"}, backend=own_service(lab, backend))
        assert lab.get(host).status == 503  # the service asks for a certificate
        host = lab.route({"backend-protocol": "HTTPS", "proxy-ssl-secret": "other-ca", "proxy-ssl-verify": "on"},
                         backend=own_service(lab, backend))
        assert lab.get(host).status == 503  # its certificate is of another CA
        host = lab.route({"backend-protocol": "HTTPS", "proxy-ssl-secret": "missing"}, backend=own_service(lab, backend))
        assert lab.get(host).status == 503 and "does not exist" in lab.messages(host)


def endpoints_of(lab, annotations, requests, count=4):
    """Which of the endpoints of a service got each of the requests (headers, path)."""
    lab.counter += 1
    name = f"s{lab.counter}"
    backend = Backend(lambda r, c: simple_response(c.socket.getsockname()[0].encode()), host="0.0.0.0")
    try:
        lab.give(name, service(name, 80, backend.port, addresses=[f"127.0.0.{i + 1}" for i in range(count)]))
        host = lab.route(annotations, backend=name)
        return [lab.get(host, path, headers=headers) for headers, path in requests]
    finally:
        backend.stop()


@case("load-balance")
def load_balance(lab):
    for value in ("round_robin", "random", "LEAST_CONN", "least_request", "passthrough"):
        found = collections.Counter(a.body for a in endpoints_of(lab, {"load-balance": value}, [((), "/")] * 40))
        assert len(found) == 4, value
        if value == "round_robin":
            assert set(found.values()) == {10}


def test_ewma_prefers_the_faster_endpoint(lab):
    slow = set()

    def handler(request, connection):
        address = connection.socket.getsockname()[0]
        slow.update([address] if not slow else [])
        if address in slow:
            time.sleep(0.05)
        return simple_response(address.encode())
    backend = Backend(handler, host="0.0.0.0")
    lab.give("ewma", service("ewma", 80, backend.port, addresses=["127.0.0.1", "127.0.0.2", "127.0.0.3"]))
    host = lab.host()
    lab.apply(host, lab.ingress(host, {"load-balance": "ewma"}, "ewma"))
    found = collections.Counter(lab.get(host).body.decode() for _ in range(80))
    assert len(found) == 3 and lab.messages(host) == ""
    assert found[slow.pop()] < 20 and sum(found.values()) == 80
    backend.stop()


@case("upstream-hash-by")
def upstream_hash_by(lab):
    same = [({"x-u": "7"}, "/same?arg=1")] * 12
    for value in ("$request_uri", "$host", "$remote_addr", "$http_x-u", "$arg_arg"):
        assert len({a.body for a in endpoints_of(lab, {"upstream-hash-by": value}, same)}) == 1, value
    found = endpoints_of(lab, {"upstream-hash-by": "$http_x-u"}, [({"x-u": str(i)}, "/") for i in range(40)])
    assert len({a.body for a in found}) > 1
    assert len({a.body for a in endpoints_of(lab, {"upstream-hash-by": "nonsense"}, same)}) == 4


# What affinity-mode and affinity-canary-behavior do: test_annotations_nginx.py.
@case("affinity", "affinity-mode", "affinity-canary-behavior", "session-cookie-name", "session-cookie-path",
      "session-cookie-max-age", "session-cookie-expires")
def affinity(lab):
    for annotations, pattern in [
            ({"affinity": "cookie"}, r"INGRESSCOOKIE=\w+; Path=/; HttpOnly"),
            ({"session-cookie-name": "route", "session-cookie-expires": "60"}, r"route=\w+; Expires=[^;]+ GMT; Max-Age=60; Path=/; HttpOnly"),
            ({"session-cookie-path": "/x", "session-cookie-expires": "60", "session-cookie-max-age": "30"},
             r"INGRESSCOOKIE=\w+; Expires=[^;]+ GMT; Max-Age=30; Path=/x; HttpOnly")]:
        first = endpoints_of(lab, annotations, [((), "/")])[0]
        assert re.fullmatch(pattern, first.header("set-cookie")), first.header("set-cookie")
        cookie = first.header("set-cookie").split(";")[0]
        found = endpoints_of(lab, annotations, [({"Cookie": cookie}, "/")] * 8)
        assert len({a.body for a in found}) == 1 and all(a.header("set-cookie") is None for a in found)


def test_the_oldest_ingress_decides_about_a_service(lab):
    backend = Backend(lambda r, c: simple_response(c.socket.getsockname()[0].encode()), host="0.0.0.0")
    try:
        lab.give("shared", service("shared", 80, backend.port, addresses=["127.0.0.1", "127.0.0.2"]))
        first, second = lab.host(), lab.host()
        lab.apply(first, lab.ingress(first, {"load-balance": "round_robin"}, "shared", created=1))
        lab.apply(second, lab.ingress(second, {"upstream-hash-by": "$host"}, "shared", created=2))
        assert len({lab.get(second).body for _ in range(8)}) == 2
        assert "an older Ingress decides the upstream annotations" in lab.messages(second)
        lab.gateway.apply(f"{first}.yaml", "")
        assert len({lab.get(second).body for _ in range(8)}) == 1
    finally:
        backend.stop()


# --- TLS


@case("tls-min-protocol-version", "tls-max-protocol-version", "ssl-cipher", "auth-tls-secret")
def tls_options(lab):
    host = lab.host()
    lab.give("tls-secrets", tls_secret("cert", lab.authority.issue(host), namespace="default"),
              opaque_secret("cert-cacert", namespace="default", ca_crt=lab.authority.pem))

    applied = []

    def version(annotations, certificate=None, **options):
        if annotations not in applied[-1:]:
            lab.apply(host, lab.ingress(host, annotations, tls="cert"))
            applied.append(annotations)
        context = lab.authority.client_context(certificate=certificate, **options)
        try:
            with lab.gateway.connect(tls=True, context=context, server_hostname=host) as client:
                client.request(host=host)
                assert client.response().status == 200
                return client.socket.version(), client.socket.cipher()[0]
        except (ssl.SSLError, ConnectionError, EOFError):
            return None
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    assert version({})[0] == "TLSv1.3"
    assert version({"tls-min-protocol-version": "TLSv1.3"}, maximum=v12) is None
    assert version({"tls-max-protocol-version": "TLSv1.2"})[0] == "TLSv1.2"
    assert version({"tls-max-protocol-version": "TLSv1.2"}, minimum=v13) is None
    chosen = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    assert version({"ssl-cipher": chosen + ":RC4"}, maximum=v12)[1] in chosen.split(":")
    assert version({"auth-tls-secret": "cert-cacert"}) is None
    assert version({"auth-tls-secret": "default/cert-cacert"}, certificate=lab.authority.issue("me", client=True)) is not None


# --- accepted


@case("mcp-sse-stateful-param-name", "rpc-destination-name", "http2rpc-name",
      "mcp-server", "mcp-server-match-rule-domains", "mcp-server-match-rule-type", "mcp-server-match-rule-value",
      "mcp-server-upstream-type", "mcp-server-enable-path-rewrite", "mcp-server-path-rewrite-prefix")
def accepted(lab):
    host = lab.route({
        "mcp-sse-stateful-param-name": "id",
        "rpc-destination-name": "x", "http2rpc-name": "x", "mcp-server": "true", "mcp-server-match-rule-domains": "*",
        "mcp-server-match-rule-type": "prefix", "mcp-server-match-rule-value": "/mcp", "mcp-server-upstream-type": "sse",
        "mcp-server-enable-path-rewrite": "true", "mcp-server-path-rewrite-prefix": "/x"})
    assert lab.get(host, "/mcp").body == b"base" and lab.last().path == "/mcp"
    messages = lab.messages(host)
    for told in ("rpc-destination-name]: has no effect yet", "mcp-server]: has no effect yet"):
        assert told in messages


# --- the tests


@pytest.mark.parametrize("function", list(dict.fromkeys(f for functions in CASES.values() for f in functions)), ids=lambda f: f.__name__)
def test_annotation(lab, function):
    function(lab)


@pytest.mark.parametrize("function", CANARY, ids=lambda f: f.__name__)
def test_annotation_holds_for_a_canary(lab, function):
    """What the base says holds for requests that go to its canary."""
    lab.canary = True
    function(lab)


def test_every_annotation_of_higress_is_tested():
    assert set(HIGRESS_ROWS) - set(CASES) == set()


MALFORMED = {
    "canary": ("yes", '"yes" is not true or false'),
    "canary-by-header": ("a b", '"a b" is not a header name'),
    "canary-by-header-value": ("(", '"(" is not a regular expression'),
    "canary-by-header-pattern": ("[", '"[" is not a regular expression'),
    "canary-by-cookie": ("a=b", '"a=b" is not a cookie name'),
    "canary-weight": ("5%", '"5%" is not a whole number'),
    "canary-weight-total": ("0", '"0" is not in 1..2147483647'),
    "exact-match-header-": ("1", "the key names no header or parameter"),
    "prefix-match-pseudo-header-host": ("1", '"host" is not one of authority, path, method, scheme'),
    "regex-match-query-a": ("(", '"(" is not a regular expression'),
    "affinity": ('ip', '"ip" is not cookie; cookie is used'),
    "session-cookie-name": ('a=b', '"a=b" is not a cookie name'),
    "session-cookie-path": ('x', '"x" is not a path such as /shop'),
    "proxy-next-upstream": ('often', '"often" is ignored: it is not one of error, timeout'),
    "rewrite-target": ('$9', "refers to a group that the regex doesn't have"),
    "rewrite-path": ('a b', "holds a space, a '#' or a control character"),
    "upstream-vhost": ('a b/', '"a b/" is not a host with an optional port'),
    "regex-match-header-a": ('(', '"(" is not a regular expression'),
    "exact-match-pseudo-header-x": ('1', '"x" is not one of authority, path, method, scheme'),
    "regex-match-pseudo-header-path": ('(', '"(" is not a regular expression'),
    "match-method": ("FETCH", '"FETCH" is ignored: it is not one of GET, HEAD'),
    "use-regex": ("yes", '"yes" is not true or false'),
    "full-path-regex": ("on", '"on" is not true or false'),
    "ignore-path-case": (" true", '" true" is not true or false'),
    "destination": ("x% a", '"x%" is not a weight such as 30%'),
    "app-root": ("foo", "\"foo\" must begin with '/'"),
    "temporal-redirect": ("/x", '"/x" is not an http or https URL'),
    "permanent-redirect": ("ftp://x", '"ftp://x" is not an http or https URL'),
    "permanent-redirect-code": ("three", '"three" is not a whole number'),
    "ssl-redirect": ("yes", '"yes" is not true or false'),
    "force-ssl-redirect": ("yes", '"yes" is not true or false'),
    "default-backend": ("a/b/c", '"a/b/c" is not a Service: write name or namespace/name'),
    "custom-http-errors": ("x", '"x" is ignored: it is not a status code'),
    "mirror-target-service": ("a b", '"a b" is not a Service: write name or namespace/name'),
    "mirror-target-fqdn": ("a b", '"a b" is not the name of a service such as x.static'),
    "mirror-target-fqdn-port": ("x", '"x" is not a whole number'),
    "mirror-percentage": ("10%", '"10%" is not a whole number'),
    "timeout": ("5s", '"5s" is not a whole number'),
    "proxy-next-upstream-tries": ("many", '"many" is not a whole number'),
    "proxy-next-upstream-timeout": ("1s", '"1s" is not a whole number'),
    "route-limit-rpm": ("x", '"x" is not a whole number'),
    "route-limit-rps": ("x", '"x" is not a whole number'),
    "route-limit-burst-multiplier": ("x", '"x" is not a whole number'),
    "whitelist-source-range": ("10.0.0.0/33", '"10.0.0.0/33" is not an IP address or a network such as 10.0.0.0/8'),
    "denylist-source-range": ("x", '"x" is not an IP address or a network such as 10.0.0.0/8'),
    "allowlist-source-range": ("x", '"x" is not an IP address or a network such as 10.0.0.0/8'),
    "auth-type": ("digest", '"digest" is not supported; write basic'),
    "auth-secret": ("a/b/c", '"a/b/c" is not a Secret: write name or namespace/name'),
    "auth-secret-type": ("file", '"file" is not one of auth-file, auth-map'),
    "enable-cors": ("yes", '"yes" is not true or false'),
    "cors-allow-origin": ("*.a.b", '"*.a.b" is ignored: a wildcard is written scheme://*.domain'),
    "cors-allow-credentials": ("yes", '"yes" is not true or false'),
    "cors-max-age": ("1d", '"1d" is not a whole number'),
    "request-header-control-add": ("x", 'the line "x" is ignored: it has no value'),
    "request-header-control-update": ("x(y) 1", '"x(y)" is not a header name'),
    "request-header-control-remove": ("a b", '"a b" is ignored: it is not a header name'),
    "response-header-control-add": ("x", 'the line "x" is ignored: it has no value'),
    "response-header-control-update": ("x", 'the line "x" is ignored: it has no value'),
    "response-header-control-remove": ("a b", '"a b" is ignored: it is not a header name'),
    "backend-protocol": ("FCGI", '"FCGI" is not one of HTTP, HTTP2, HTTPS, GRPC, GRPCS; HTTP is used'),
    "proxy-ssl-secret": ("?", '"?" is not a Secret: write name or namespace/name'),
    "proxy-ssl-verify": ("true", '"true" is not on or off'),
    "proxy-ssl-server-name": ("true", '"true" is not on or off'),
    "load-balance": ("ip_hash", '"ip_hash" is not one of round_robin, random'),
    "upstream-hash-by": ("host", '"host" is not made of variables such as $request_uri'),
    "session-cookie-max-age": ("-1", '"-1" is not a number of seconds'),
    "session-cookie-expires": ("1h", '"1h" is not a whole number'),
    "affinity-mode": ("x", '"x" is not one of balanced, persistent'),
    "affinity-canary-behavior": ("x", '"x" is not one of legacy, sticky'),
    "auth-tls-secret": ("?", '"?" is not a Secret: write name or namespace/name'),
    "ssl-cipher": ("RC4", '"RC4" is ignored: it is not a cipher suite'),
    "tls-min-protocol-version": ("1.2", '"1.2" is not one of TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3'),
    "tls-max-protocol-version": ("SSLv3", '"SSLv3" is not one of TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3'),
    "rpc-destination-name": ("a b", '"a b" is not the name of an Http2Rpc'),
    "mcp-server": ("yes", '"yes" is not true or false'),
    "mcp-server-match-rule-type": ("glob", '"glob" is not one of exact, prefix, suffix, contains, regex'),
    "mcp-server-upstream-type": ("x", '"x" is not one of rest, sse, streamable'),
    "mcp-server-enable-path-rewrite": ("yes", '"yes" is not true or false'),
    "mcp-server-path-rewrite-prefix": ("x", "\"x\" must begin with '/'"),
}


@pytest.fixture(scope="module")
def malformed_hosts(shared_lab):
    lab = shared_lab
    lab.canary = False
    hosts = {key: lab.host() for key in MALFORMED}
    other = {"response-header-control-add": "x-other works"}
    # Services of their own where the annotation is about the service.
    texts = []
    for key, (value, _) in MALFORMED.items():
        texts.append(lab.ingress(hosts[key], {**({} if key.startswith("response-header") else other), full(key): value}))
    lab.apply("malformed", *texts)
    return hosts


@pytest.mark.parametrize("key", MALFORMED)
def test_malformed_value(lab, malformed_hosts, key):
    """The message names object, annotation, what was wrong and right; the rest works; what guards a route closes it."""
    host = malformed_hosts[key]
    value, message = MALFORMED[key]
    told = lab.messages(host)
    assert f"Ingress default/{host.replace('.', '-')}: metadata.annotations[{full(key)}]: " in told
    assert message in told
    answer = lab.get(host, method="POST" if key == "match-method" else "GET")
    row = {**HIGRESS_ROWS, **NGINX_ROWS}.get(key)
    if row and row[3]:
        assert answer.status == 503 and "answer 503" in told
    else:
        assert answer.status == 200
        if not key.startswith("response-header"):
            assert answer.header("x-other") == "works"


@pytest.mark.parametrize("key", [key for key, row in HIGRESS_ROWS.items() if row[0] == "both" and not key.startswith(("canary", "mcp"))
                                 and key in MALFORMED])
def test_invalid_nginx_value_gives_way_to_higress(lab, key):
    """Of two prefixes nginx's wins, unless it can't be understood."""
    value = MALFORMED[key][0]
    if key in ("auth-type", "auth-secret", "auth-secret-type", "auth-tls-secret", "whitelist-source-range"):
        annotations = {NGINX + "whitelist-source-range": "nonsense", HIGRESS + "whitelist-source-range": "127.0.0.1"}
        host = lab.route(annotations)
        assert lab.get(host).status == 200
        return
    host = lab.route({NGINX + key: value, HIGRESS + key: value})
    assert lab.messages(host).count(key + "]") >= 1


def test_prefixes(lab):
    host = lab.route({NGINX + "upstream-vhost": "n.x", HIGRESS + "upstream-vhost": "h.x"})
    assert lab.get(host).status == 200 and lab.last().header("host") == "n.x"
    host = lab.route({NGINX + "rewrite-target": "/n", HIGRESS + "rewrite-target": "/h"}, path="/p")
    assert lab.get(host, "/p").status == 200 and lab.last().path == "/n"
    host = lab.route({NGINX + "ssl-redirect": "maybe", HIGRESS + "ssl-redirect": "true"})
    assert lab.get(host).status == 308
    host = lab.route({NGINX + "timeout": "1"})
    assert "is not read with this prefix; write higress.io/timeout" in lab.messages(host)
    host = lab.route({NGINX + "no-such-thing": "1"})
    assert "is not supported and has no effect" in lab.messages(host) and lab.get(host).status == 200


def test_explain_tells(lab):
    from harness import BINARY
    host = lab.host()
    lab.apply(host, opaque_secret("xusers", namespace="default", auth="a:{PLAIN}b"), lab.ingress(host, {
        "whitelist-source-range": "10.0.0.0/8", "denylist-source-range": "10.1.0.0/16", "auth-type": "basic", "auth-secret": "xusers",
        "mirror-target-service": "shadow", "default-backend": "fallback", "custom-http-errors": "404"}),
        lab.ingress(host, {"canary": "true", "canary-by-header": "x-canary"}, "next", name="xc1", created=5),
        lab.ingress(host, {"canary": "true", "canary-weight": "5"}, "third", name="xc2", created=6))

    def explain(*headers):
        command = [str(BINARY), "explain", "--config", str(lab.gateway.directory), "--request", f"http://{host}/"]
        for header in headers:
            command += ["-H", header]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout + done.stderr
    text = explain()
    for told in ("allows only clients of 10.0.0.0/8", "denies clients of 10.1.0.0/16", "basic authentication by Secret default/xusers",
                 "copies 100% of the requests to outbound|80||shadow", "falls back to outbound|80||fallback", "404",
                 "canary default/xc2: 5 of 100 requests", "95% to outbound|80||base"):
        assert told in text, text
    text = explain("x-canary: always")
    assert "canary of Ingress default/" in text and "100% to outbound|80||next" in text, text
