"""The annotations of ingress-nginx about access, limits and sizes in the real binary: what they do, what becomes of a value
that can't be understood, and how they go with a canary."""

import json
import re
import time

import pytest

from harness import Backend, simple_response, wait_until
from peers import manifest, opaque_secret
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
        from peers import service
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
        host = lab.route({"auth-url": oracle.url, "auth-snippet": "proxy_set_header X-A b;"})
        assert "directives of nginx are not run" in lab.messages(host)
        assert lab.get(host).status == 200 and lab.get(host, headers={"x-verdict": "403"}).status == 403


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
    "auth-keepalive": ("x", '"x" is not a whole number'),
    "auth-keepalive-requests": ("x", '"x" is not a whole number'),
    "auth-keepalive-timeout": ("x", '"x" is not a whole number'),
    "auth-keepalive-share-vars": ("x", '"x" is not true or false'),
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
    if NGINX_ROWS[key][3]:
        assert answer.status == 503 and "answer 503" in told
    else:
        assert answer.status == 200 and answer.header("x-other") == "works"
