"""The gateway on a real API server (test/kube_rig.py)."""

import contextlib
import itertools
import json
import os
import random
import re
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest
import yaml

from harness import BINARY, ROOT, Adopted, Backend, Gateway, is_sanitized, simple_response, wait_until
from kube_rig import CRD_MCP_BRIDGE, MERGE_PATCH, Rig, Tap, own_address
from peers import Authority, metrics, tls_secret

pytestmark = pytest.mark.timeout(180)
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    rig = Rig(tmp_path_factory.mktemp("rig"))
    yield rig
    rig.stop()


class World:
    """One test's part of the cluster: a namespace, a system namespace, backends, gateways."""

    def __init__(self, rig, directory):
        self.rig = rig
        self.directory = directory
        number = next(numbers)
        self.ns, self.system = f"ns{number}", f"system{number}"
        rig.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                    for name in (self.ns, self.system)))
        self.address = own_address()
        self.gateways, self.backends, self.taps = [], [], []

    def backend(self, body):
        backend = Backend(lambda r, c: simple_response(body.encode()), host=self.address)
        self.backends.append(backend)
        return backend

    def tap(self):
        tap = Tap(self.rig.port)
        self.taps.append(tap)
        return tap

    def kubeconfig(self, user=None, port=None, name="kubeconfig"):
        cluster = {"server": f"https://127.0.0.1:{port or self.rig.port}",
                   "certificate-authority": str(self.rig.pki / "ca.crt")}
        user = user or {"client-certificate": str(self.rig.pki / "admin.crt"),
                        "client-key": str(self.rig.pki / "admin.key")}
        return self.rig.write_kubeconfig(self.directory / name, user, cluster)

    def gateway(self, *flags, kubeconfig=None, watch=True, start=True):
        directory = self.directory / f"gateway{len(self.gateways)}" / "unused"
        directory.parent.mkdir()
        gateway = Gateway(directory, "--kubeconfig", str(kubeconfig or self.kubeconfig()), "--system-namespace", self.system,
                          *(["--watch-namespace", self.ns] if watch else []), *flags)
        self.gateways.append(gateway)
        return gateway.start() if start else gateway

    def service(self, name, *backends):
        self.rig.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": self.ns},
                        "spec": {"ports": [{"name": "main", "port": 80, "targetPort": 80}]}})
        self.endpoints(name, *backends)

    def endpoints(self, name, *backends):
        for index, backend in enumerate(backends):
            self.rig.apply({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                            "metadata": {"name": f"{name}-{index}", "namespace": self.ns,
                                         "labels": {"kubernetes.io/service-name": name}},
                            "ports": [{"name": "main", "port": backend.port}],
                            "endpoints": [{"addresses": [self.address], "conditions": {"ready": True}}]})

    def ingress(self, name, service, host="test.com", path="/", secret=None, annotations=None, ingress_class="higress"):
        spec = {"ingressClassName": ingress_class, "rules": [{"host": host, "http": {"paths": [
            {"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}}]}}]}
        if secret:
            spec["tls"] = [{"hosts": [host], "secretName": secret}]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": spec,
                "metadata": {"name": name, "namespace": self.ns, "annotations": annotations or {}}}

    def events(self, name):
        found = self.rig.get(f"/api/v1/namespaces/{self.ns}/events?fieldSelector=involvedObject.name={name}")
        return found["items"]

    def stop(self):
        for tap in self.taps:
            tap.reopen()
        try:
            for gateway in self.gateways:
                gateway.stop()
        finally:
            for thing in self.backends + self.taps:
                thing.stop()
            self.rig.request("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{self.ns}/ingresses")


@pytest.fixture
def world(rig, tmp_path):
    world = World(rig, tmp_path)
    yield world
    world.stop()


def sources(gateway):
    return json.loads(gateway.admin("/sources"))["kubernetes"]


def kind_of(gateway, kind):
    return next(k for k in sources(gateway)["kinds"] if k["kind"] == kind)


def is_leader(gateway):
    return sources(gateway)["leader"]


class Traffic:
    """Requests without a pause, each of which must be answered as `expected` says."""

    def __init__(self, gateway, expected=(b"a",), **request):
        self.gateway, self.expected, self.request = gateway, expected, request
        self.count, self.failures = 0, []
        self.stopped = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopped:
            try:
                response = self.gateway.get(**self.request)
                if response.status != 200 or response.body not in self.expected:
                    self.failures.append(repr(response))
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
            self.count += 1
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            wait_until(lambda: self.count > 50, 5, "traffic")
        self.stopped = True
        self.thread.join()
        assert not self.failures, (self.count, self.failures[:3])


def test_initial_objects_and_live_changes(world):
    a, b = world.backend("a"), world.backend("b")
    world.service("s", a)
    world.rig.apply(world.ingress("one", "s"), world.ingress("other", "s", host="other.com", ingress_class="nginx"))
    gateway = world.gateway()
    assert gateway.get().body == b"a"
    assert gateway.get(host="other.com").status == 404
    # An Ingress more, one changed, one gone.
    world.rig.apply(world.ingress("two", "s", host="two.com"))
    wait_until(lambda: gateway.get(host="two.com").status == 200, 3, "the new Ingress")
    world.rig.apply(world.ingress("two", "s", host="three.com"))
    wait_until(lambda: gateway.get(host="three.com").status == 200, 3, "the change")
    assert gateway.get(host="two.com").status == 404
    world.rig.delete(world.ingress("two", "s"))
    wait_until(lambda: gateway.get(host="three.com").status == 404, 3, "the removal")
    # Endpoints move under traffic.
    with Traffic(gateway, (b"a", b"b")):
        for body, backend in ((b"b", b), (b"a", a), (b"b", b)):
            world.endpoints("s", backend)
            wait_until(lambda: gateway.get().body == body, 3, "the endpoints")
    # A Service goes and comes back.
    world.rig.delete({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                      "metadata": {"name": "s-0", "namespace": world.ns}})
    wait_until(lambda: gateway.get().status == 503, 3, "no endpoints")
    world.endpoints("s", a)
    wait_until(lambda: gateway.get().status == 200, 3, "endpoints again")
    # Settings.
    world.rig.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "higress-config", "namespace": world.system},
                     "data": {"higress": "downstream: {maxRequestHeadersKb: 1}\n"}})
    wait_until(lambda: gateway.get(headers={"x": "y" * 3000}).status == 431, 3, "the settings")
    # Classes come and go; nothing follows from the object itself.
    ingress_class = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "higress"},
                     "spec": {"controller": "sluice.io/gateway"}}
    world.rig.apply(ingress_class)
    wait_until(lambda: kind_of(gateway, "IngressClass")["objects"] == 1, 3, "the class")
    world.rig.delete(ingress_class)
    wait_until(lambda: kind_of(gateway, "IngressClass")["objects"] == 0, 3, "the class to go")
    assert gateway.get().status == 200
    found = metrics(gateway)
    assert found['sluice_kubernetes_synced{kind="Ingress",namespace="%s"}' % world.ns] == 1
    assert found['sluice_kubernetes_objects{kind="Ingress",namespace="%s"}' % world.ns] == 2
    assert found['sluice_kubernetes_events_total{kind="Ingress",namespace="%s"}' % world.ns] >= 3
    assert found['sluice_kubernetes_relists_total{kind="Ingress",namespace="%s"}' % world.ns] == 0


def presented(gateway, authority, host):
    """The serial number of the certificate that the gateway shows, or None if the handshake fails."""
    import ssl
    from cryptography import x509
    context = authority.client_context()
    try:
        with gateway.connect(tls=True, context=context, server_hostname=host) as connection:
            return x509.load_der_x509_certificate(connection.socket.getpeercert(binary_form=True)).serial_number
    except (ssl.SSLError, ConnectionError):
        return None


def serial(pair):
    from cryptography import x509
    return x509.load_pem_x509_certificate(pair[0].encode()).serial_number


def test_only_named_secrets_are_kept(world):
    authority = Authority()
    world.service("s", world.backend("a"))
    first, second = authority.issue("test.com"), authority.issue("test.com")
    world.rig.apply(tls_secret("first", first, namespace=world.ns), tls_secret("second", second, namespace=world.ns),
                    tls_secret("unused", authority.issue("unused.com"), namespace=world.ns))
    world.rig.apply(world.ingress("i", "s", secret="first"))
    gateway = world.gateway()
    assert presented(gateway, authority, "test.com") == serial(first)

    def secrets():
        return sorted(o["object"] for o in json.loads(gateway.admin("/objects")) if o["object"].startswith("Secret"))
    assert secrets() == [f"Secret {world.ns}/first"]
    # Named later: fetched, and the Ingress is never without a certificate in between.
    stopped, seen = threading.Event(), []

    def handshakes():
        while not stopped.is_set():
            seen.append(presented(gateway, authority, "test.com"))
    thread = threading.Thread(target=handshakes)
    thread.start()
    for name, pair in (("second", second), ("first", first), ("second", second)):
        world.rig.apply(world.ingress("i", "s", secret=name))
        wait_until(lambda: seen and seen[-1] == serial(pair), 5, f"Secret {name}")
    # A new version of one that is named.
    third = authority.issue("test.com")
    world.rig.apply(tls_secret("second", third, namespace=world.ns))
    wait_until(lambda: seen[-1] == serial(third), 5, "the new certificate")
    # A key pair that does not belong together leaves the last good one serving.
    world.rig.apply(tls_secret("second", (third[0], first[1]), namespace=world.ns))
    time.sleep(0.3)
    stopped.set()
    thread.join()
    assert len(seen) > 20 and None not in seen and seen[-1] == serial(third)
    assert secrets() == [f"Secret {world.ns}/second"]
    # Gone and back.
    world.rig.delete(tls_secret("second", third, namespace=world.ns))
    wait_until(lambda: secrets() == [], 3, "the Secret to go")
    world.rig.apply(tls_secret("second", second, namespace=world.ns))
    wait_until(lambda: presented(gateway, authority, "test.com") == serial(second), 3, "the Secret again")
    world.rig.delete(world.ingress("i", "s"))
    wait_until(lambda: secrets() == [], 3, "the Secret to be let go")


def test_a_secret_that_an_annotation_names(world):
    """Protection that depends on a Secret: closed while it is missing, never open."""
    import base64
    import hashlib
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s", annotations={
        "nginx.ingress.kubernetes.io/auth-type": "basic", "nginx.ingress.kubernetes.io/auth-secret": "users"}))
    gateway = world.gateway()
    credentials = {"authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
    assert gateway.get(headers=credentials).status != 200
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    users = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": world.ns},
             "stringData": {"auth": f"ann:{{SHA}}{digest}\n"}}
    world.rig.apply(users)
    wait_until(lambda: gateway.get(headers=credentials).status == 200, 3, "the users")
    assert gateway.get().status == 401
    world.rig.apply({**users, "stringData": {"auth": f"bob:{{SHA}}{digest}\n"}})
    wait_until(lambda: gateway.get(headers=credentials).status == 401, 3, "other users")


def test_config_maps_that_annotations_name(world):
    """Changed, deleted, made again, named later; those that nobody names are not kept."""
    def config_map(name, **data):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": world.ns}, "data": data}

    def field():
        return gateway.get().header("x-team")

    def kept():
        return sorted(o["object"] for o in json.loads(gateway.admin("/objects"))
                      if o["object"].startswith(f"ConfigMap {world.ns}/"))
    world.service("s", world.backend("a"))
    world.rig.apply(config_map("first", **{"X-Team": "one"}), config_map("second", **{"X-Team": "two"}), config_map("unused", k="v"))
    world.rig.apply(world.ingress("i", "s", annotations={"nginx.ingress.kubernetes.io/custom-headers": "first"}))
    gateway = world.gateway()
    assert field() == "one" and kept() == [f"ConfigMap {world.ns}/first"]
    world.rig.apply(config_map("first", **{"X-Team": "changed"}))
    wait_until(lambda: field() == "changed", 3, "the change")
    world.rig.delete(config_map("first"))
    wait_until(lambda: field() is None, 3, "the map to go")
    assert gateway.get().status == 200
    world.rig.apply(config_map("first", **{"X-Team": "again"}))
    wait_until(lambda: field() == "again", 3, "the map again")
    # Named later: there is no moment without it.
    seen, stopped = [], threading.Event()

    def ask():
        while not stopped.is_set():
            seen.append(field())
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for name, value in (("second", "two"), ("first", "again"), ("second", "two")):
            world.rig.apply(world.ingress("i", "s", annotations={"nginx.ingress.kubernetes.io/custom-headers": name}))
            wait_until(lambda: seen and seen[-1] == value, 5, name)  # noqa: B023
    finally:
        stopped.set()
        thread.join()
    assert set(seen) == {"two", "again"} and kept() == [f"ConfigMap {world.ns}/second"]
    # What guards a route closes it while it is missing.
    world.service("auth", world.backend("ok"))
    world.rig.apply(world.ingress("g", "s", host="guarded.com", annotations={
        "nginx.ingress.kubernetes.io/auth-url": f"http://auth.{world.ns}.svc.cluster.local/",
        "nginx.ingress.kubernetes.io/auth-proxy-set-headers": "asked"}))
    wait_until(lambda: gateway.get(host="guarded.com").status == 503, 3, "the closed route")
    world.rig.apply(config_map("asked", **{"X-Asked": "by-map"}))
    wait_until(lambda: gateway.get(host="guarded.com").status == 200, 3, "the route")
    world.rig.delete(config_map("asked"))
    wait_until(lambda: gateway.get(host="guarded.com").status == 503, 3, "the route closed again")
    world.rig.delete(world.ingress("i", "s"), world.ingress("g", "s"))
    wait_until(lambda: kept() == [], 3, "the maps to be let go")


def test_client_certificate_authorities_that_an_annotation_names(world):
    """auth-tls-secret: another authority is taken up live; without the Secret nobody comes in."""
    authority, good, other = Authority(), Authority("Good"), Authority("Other")
    ca = lambda issuer: {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": world.ns},  # noqa: E731
                         "stringData": {"ca.crt": issuer.pem}}
    world.service("s", world.backend("a"))
    world.rig.apply(tls_secret("cert", authority.issue("test.com"), namespace=world.ns), ca(good))
    world.rig.apply(world.ingress("i", "s", secret="cert", annotations={
        "nginx.ingress.kubernetes.io/auth-tls-secret": f"{world.ns}/ca"}))
    gateway = world.gateway()

    def admitted(issuer):
        context = authority.client_context(["http/1.1"], issuer.issue("alice", client=True) if issuer else None)
        try:
            with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=5) as raw, \
                    context.wrap_socket(raw, server_hostname="test.com") as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: test.com\r\nConnection: close\r\n\r\n")
                return tls.recv(12) == b"HTTP/1.1 200"
        except (OSError, ssl.SSLError):
            return False
    assert [admitted(i) for i in (good, other, None)] == [True, False, False]
    world.rig.apply(ca(other))
    wait_until(lambda: [admitted(i) for i in (good, other, None)] == [False, True, False], 3, "the other authority")
    world.rig.delete(ca(other))
    time.sleep(0.3)
    assert not admitted(None) and not admitted(good)
    world.rig.apply(ca(good))
    wait_until(lambda: [admitted(i) for i in (good, other, None)] == [True, False, False], 3, "the first authority again")


def test_kinds_whose_definition_comes_late(world):
    """And goes again."""
    world.rig.delete(CRD_MCP_BRIDGE)
    wait_until(lambda: world.rig.request("GET", "/apis/networking.higress.io/v1/mcpbridges")[0] == 404, 20, "no definition")
    backend = world.backend("a")
    gateway = world.gateway()
    assert kind_of(gateway, "McpBridge")["state"] == "absent"
    world.rig.apply(CRD_MCP_BRIDGE)
    bridge = {"apiVersion": "networking.higress.io/v1", "kind": "McpBridge",
              "metadata": {"name": "default", "namespace": world.system},
              "spec": {"registries": [{"name": "be", "type": "static", "port": 80,
                                       "domain": f"{world.address}:{backend.port}"}]}}
    def created():
        return world.rig.request("POST", world.rig.path_of(bridge), bridge)[0] == 201
    wait_until(created, 20, "the definition")
    ingress = world.ingress("i", "s", annotations={"higress.io/destination": "be.static:80"})
    ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"] = {
        "resource": {"apiGroup": "networking.higress.io", "kind": "McpBridge", "name": "default"}}
    world.rig.apply(ingress)
    wait_until(lambda: gateway.get().body == b"a", 3, "the registry")
    world.rig.delete(CRD_MCP_BRIDGE)
    wait_until(lambda: gateway.get().status == 503, 20, "the registry to vanish")
    wait_until(lambda: kind_of(gateway, "McpBridge")["state"] == "absent", 20, "the kind to be absent")


def test_restart_of_the_api_server_under_traffic(world):
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"))
    gateway = world.gateway()
    with Traffic(gateway):
        world.rig.stop_apiserver(kill=True)
        time.sleep(1)
        assert gateway.ready()
        assert kind_of(gateway, "Ingress")["lastError"]
        world.rig.start_apiserver()
        world.rig.apply(world.ingress("more", "s", host="more.com"))
        wait_until(lambda: gateway.get(host="more.com").status == 200, 20, "a change after the restart")
        world.rig.stop_apiserver()
        world.rig.start_apiserver()
        world.rig.delete(world.ingress("more", "s"))
        wait_until(lambda: gateway.get(host="more.com").status == 404, 20, "a removal after the restart")


def test_gone_history_is_listed_anew(world):
    """What happened while the watch was away and is compacted is found by a new list: 410 Gone."""
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"), world.ingress("gone", "s", host="gone.com"))
    tap = world.tap()
    gateway = world.gateway(kubeconfig=world.kubeconfig(port=tap.port))
    with Traffic(gateway):
        tap.shut()
        world.rig.delete(world.ingress("gone", "s"))
        world.rig.apply(world.ingress("new", "s", host="new.com"))
        time.sleep(0.3)
        world.rig.stop_apiserver()
        world.rig.start_apiserver()
        # Something younger than what the gateway knows, and nothing older left.
        world.rig.apply(*({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{i}", "namespace": world.ns}}
                          for i in range(5)))
        world.rig.compact()
        assert gateway.get(host="gone.com").status == 200
        tap.reopen()
        wait_until(lambda: gateway.get(host="new.com").status == 200, 20, "the new Ingress")
        wait_until(lambda: gateway.get(host="gone.com").status == 404, 20, "the removal")
    assert kind_of(gateway, "Ingress")["relists"] >= 1


def rbac(world, account="sluice"):
    """deploy/kubernetes/rbac.yaml, moved into the test's system namespace."""
    out = []
    for document in yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text()):
        text = json.dumps(document).replace("higress-system", world.system)
        document = json.loads(text)
        if document["kind"].startswith("ClusterRole"):
            document["metadata"]["name"] += f"-{world.system}"
            if "roleRef" in document:
                document["roleRef"]["name"] += f"-{world.system}"
        out.append(document)
    return out


def test_least_rights_and_token_rotation(world):
    """The gateway does all it does with exactly the rights of the manifest; a new token is taken up."""
    roles = rbac(world)
    world.rig.apply(*roles)
    account = next(d for d in roles if d["kind"] == "ServiceAccount")
    token = world.directory / "token"
    token.write_text(world.rig.token(world.system, "sluice"))
    authority = Authority()
    pair = authority.issue("test.com")
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s", secret="cert"), tls_secret("cert", pair, namespace=world.ns))
    tap = world.tap()
    gateway = world.gateway("--publish-address", "192.0.2.7", kubeconfig=world.kubeconfig(
        {"tokenFile": str(token)}, port=tap.port), watch=False)
    states = {k["kind"]: k["state"] for k in sources(gateway)["kinds"]}
    assert set(states.values()) <= {"watching", "absent"}, states
    assert presented(gateway, authority, "test.com") == serial(pair)
    wait_until(lambda: is_leader(gateway), 5, "leadership")
    wait_until(lambda: world.rig.get(f"/apis/networking.k8s.io/v1/namespaces/{world.ns}/ingresses/i")["status"]
               ["loadBalancer"].get("ingress") == [{"ip": "192.0.2.7"}], 5, "the status")
    world.rig.apply(world.ingress("i", "s", annotations={"higress.io/timeout": "soon"}))
    wait_until(lambda: world.events("i"), 5, "an Event")
    world.rig.apply(world.ingress("i", "s", secret="cert"))
    assert "deploy/kubernetes/rbac.yaml" not in gateway.errors()  # what a refusal (403) is told with
    with Traffic(gateway):
        # The account is made anew: the former token is worth nothing.
        world.rig.delete(account)
        world.rig.apply(account)
        # The server remembers for ten seconds that the token was good; watches under way it does not question.
        time.sleep(11)
        tap.drop()
        wait_until(lambda: "401" in kind_of(gateway, "Ingress")["lastError"], 10, "the refusal")
        token.write_text(world.rig.token(world.system, "sluice") + "\n")
        world.rig.apply(world.ingress("more", "s", host="more.com"))
        wait_until(lambda: gateway.get(host="more.com").status == 200, 25, "a change with the new token")
    assert token.read_text().strip() not in gateway.errors()


def test_in_a_pod(world):
    """What a Pod is given: a service account's directory, and variables. The directory is put in place in a mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    world.rig.apply(*rbac(world))
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"))
    (world.directory / "token").write_text(world.rig.token(world.system, "sluice"))
    gateway = Gateway(world.directory / "pod", "--in-cluster", "--publish-address", "192.0.2.9")
    world.gateways.append(gateway)
    account = "/run/secrets/kubernetes.io/serviceaccount"
    script = (f"mount -t tmpfs none /run && mkdir -p {account} && cp {world.directory}/token {world.rig.pki}/ca.crt {account} && "
              'exec "$@"')
    gateway.process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", script, "sh", str(BINARY), *gateway.flags], stderr=open(gateway.error_path, "ab"),
        env={**os.environ, "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(world.rig.port),
             "POD_NAME": "pod-1", "POD_NAMESPACE": world.system})
    wait_until(gateway.ready, 10, "readiness")
    assert gateway.get().body == b"a"
    wait_until(lambda: is_leader(gateway), 5, "leadership")
    lease = world.rig.get(f"/apis/coordination.k8s.io/v1/namespaces/{world.system}/leases/sluice-leader")
    assert lease["spec"]["holderIdentity"].startswith("pod-1_")


def test_a_forbidden_kind_harms_only_itself(world):
    roles = rbac(world)
    for role in roles:
        if role["kind"] == "ClusterRole":
            for rule in role["rules"]:
                rule["resources"] = [r for r in rule["resources"] if r != "secrets"]
            role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
    world.rig.apply(*roles)
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"))
    gateway = world.gateway(kubeconfig=world.kubeconfig({"token": world.rig.token(world.system, "sluice")}), watch=False)
    assert gateway.get().body == b"a"
    secret = kind_of(gateway, "Secret")
    assert secret["state"] == "forbidden" and "secrets is forbidden" in secret["lastError"]
    assert "deploy/kubernetes/rbac.yaml" in gateway.errors()
    world.rig.apply(world.ingress("i", "s", host="moved.com"))
    wait_until(lambda: gateway.get(host="moved.com").status == 200, 3, "a change")
    # Given the right, it goes on by itself.
    authority = Authority()
    world.rig.apply(tls_secret("cert", authority.issue("moved.com"), namespace=world.ns),
                    world.ingress("i", "s", host="moved.com", secret="cert"), *rbac(world))
    wait_until(lambda: presented(gateway, authority, "moved.com"), 15, "the certificate")


def test_status_and_events(world):
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"), world.ingress("foreign", "s", host="x.com", ingress_class="nginx"))
    gateway_service = {"apiVersion": "v1", "kind": "Service", "spec": {
        "type": "LoadBalancer", "ports": [{"port": 80}]}, "metadata": {
            "name": "gw", "namespace": world.system, "labels": {"app": "higress-gateway"}}}
    world.rig.apply(gateway_service)
    gateway = world.gateway()
    wait_until(lambda: is_leader(gateway), 5, "leadership")

    def addresses(name):
        ingress = world.rig.get(f"/apis/networking.k8s.io/v1/namespaces/{world.ns}/ingresses/{name}")
        return ingress["status"]["loadBalancer"].get("ingress")

    def balance(*entries):
        status, answer = world.rig.request("PATCH", f"/api/v1/namespaces/{world.system}/services/gw/status", {
            "status": {"loadBalancer": {"ingress": list(entries)}}}, MERGE_PATCH)
        assert status == 200, answer
    time.sleep(0.5)
    assert addresses("i") is None  # no address is known yet
    balance({"ip": "203.0.113.9"}, {"hostname": "lb.example.com"})
    expected = [{"ip": "203.0.113.9"}, {"hostname": "lb.example.com"}]
    wait_until(lambda: addresses("i") == expected, 5, "the addresses")
    balance({"ip": "203.0.113.10"})
    wait_until(lambda: addresses("i") == [{"ip": "203.0.113.10"}], 5, "the new address")
    # A new Ingress, and one whose status somebody has changed.
    world.rig.apply(world.ingress("late", "s", host="late.com"))
    wait_until(lambda: addresses("late") == [{"ip": "203.0.113.10"}], 5, "the status of a new Ingress")
    world.rig.request("PATCH", f"/apis/networking.k8s.io/v1/namespaces/{world.ns}/ingresses/i/status", {
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}, MERGE_PATCH)
    wait_until(lambda: addresses("i") == [{"ip": "203.0.113.10"}], 5, "the status to be put right")
    assert addresses("foreign") is None
    # Nothing is written that is there already, and no address clears nothing.
    written = metrics(gateway)["sluice_kubernetes_status_writes_total"]
    balance()
    world.rig.apply(world.ingress("i", "s", annotations={"higress.io/timeout": "5"}))
    time.sleep(0.7)
    assert addresses("i") == [{"ip": "203.0.113.10"}]
    assert metrics(gateway)["sluice_kubernetes_status_writes_total"] == written

    # Events: a bad annotation, and a path that an older Ingress has.
    time.sleep(1.1)  # creation times have whole seconds
    world.rig.apply(world.ingress("young", "s", annotations={"higress.io/timeout": "soon"}))
    wait_until(lambda: len(world.events("young")) >= 2, 5, "the Events")
    found = world.events("young")
    uid = world.rig.get(f"/apis/networking.k8s.io/v1/namespaces/{world.ns}/ingresses/young")["metadata"]["uid"]
    for event in found:
        assert event["type"] == "Warning" and event["source"]["component"] == "sluice"
        assert event["involvedObject"]["uid"] == uid and event["involvedObject"]["kind"] == "Ingress"
    messages = " | ".join(event["message"] for event in found)
    assert "higress.io/timeout" in messages and f"{world.ns}/i" in messages, messages
    # Trouble that another object makes is told a little later.
    world.rig.apply(tls_secret("cert", Authority().issue("s.com"), namespace=world.ns),
                    world.ingress("secure", "s", host="s.com", secret="cert"))
    time.sleep(0.5)
    assert world.events("secure") == []
    world.rig.delete(tls_secret("cert", ("", ""), namespace=world.ns))
    told = wait_until(lambda: world.events("secure"), 15, "the Event")
    assert f"Secret {world.ns}/cert does not exist" in told[0]["message"]
    # The same finding again is no Event more.
    world.rig.apply(world.ingress("young", "s", annotations={"higress.io/timeout": "soon", "other": "x"}))
    time.sleep(0.5)
    assert len(world.events("young")) == len(found)


@pytest.mark.parametrize("ingress_class, served", [
    ("higress", "ab"), ("nginx", "cde"), ("", "abcde"), ("other", "")])
def test_classes(world, ingress_class, served):
    world.service("s", world.backend("a"))
    for name, given in (("a", "higress"), ("b", None), ("c", "nginx"), ("d", None), ("e", None)):
        ingress = world.ingress(name, "s", host=f"{name}.com", ingress_class=given)
        if given is None:
            del ingress["spec"]["ingressClassName"]
        if name in "be":
            # The annotation decides before the field.
            ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "higress" if name == "b" else ""
        world.rig.apply(ingress)
    gateway = world.gateway("--ingress-class", ingress_class)
    assert "".join(n for n in "abcde" if gateway.get(host=f"{n}.com").status == 200) == served


def test_watched_namespaces(world):
    """The namespace that is named and the system namespace; or all."""
    backend = world.backend("a")
    own, other = world.ns, f"{world.ns}-other"
    world.rig.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    for ns, host in ((own, "own.com"), (world.system, "system.com"), (other, "other.com")):
        world.ns = ns
        world.service("s", backend)
        world.rig.apply(world.ingress("i", "s", host=host))
    world.ns = own
    one = world.gateway()
    every = world.gateway("--update-status=false", watch=False)
    assert [one.get(host=h).status for h in ("own.com", "system.com", "other.com")] == [200, 200, 404]
    assert [every.get(host=h).status for h in ("own.com", "system.com", "other.com")] == [200, 200, 200]
    for ns in (other, world.system):
        world.rig.request("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses")
    wait_until(lambda: every.get(host="other.com").status == 404, 3, "the removal")
    assert not is_leader(every) and sources(every)["leaseHolder"] == ""


class Misbehaving:
    """An API server that does what a real one does rarely: `lists` and `watches` are scripts for the Ingresses, each step
    a function that writes an answer. Other kinds are empty."""

    def __init__(self):
        self.lists, self.watches, self.seen = [], [], []
        self.backend = Backend(self.answer)
        self.port = self.backend.port

    @staticmethod
    def chunked(connection, *pieces):
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    @staticmethod
    def listing(*items, version="5"):
        return simple_response(json.dumps({"metadata": {"resourceVersion": version}, "items": list(items)}).encode())

    def answer(self, request, connection):
        watch = "watch=1" in request.path
        if "/ingresses" not in request.path:
            return self.hang(connection) if watch else self.listing()
        self.seen.append(request.path)
        script = self.watches if watch else self.lists
        if script:
            return script.pop(0)(connection)
        return self.hang(connection) if watch else self.listing()

    def hang(self, connection, *pieces):
        self.chunked(connection, *pieces)
        time.sleep(60)

    def end(self, connection, *pieces):
        self.chunked(connection, *pieces)
        connection.send(b"0\r\n\r\n")

    def drop(self, connection, *pieces):
        self.chunked(connection, *pieces)
        connection.socket.shutdown(2)


def test_an_api_server_that_misbehaves(world):
    server = Misbehaving()
    world.backends.append(server.backend)

    def ingress(host):
        return world.ingress("i", "s", host=host)

    def event(kind, thing):
        return json.dumps({"type": kind, "object": thing}).encode() + b"\n"

    added = event("ADDED", ingress("pieces.com"))
    gone = event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})
    server.lists = [
        lambda c: simple_response(b'{"items": ['),
        lambda c: simple_response(b'{"message": "no\\nmind"}', status="500 Oops"),
        lambda c: c.socket.shutdown(2),
        lambda c: simple_response(b"", status="429 Slow", headers=["Retry-After: 1"]),
        # Things without a name, and of the wrong shape.
        lambda c: server.listing({}, {"metadata": 5}, {"metadata": {"name": "x"}, "spec": 7}, ingress("first.com")),
        lambda c: server.listing(ingress("second.com"), version="50"),
        lambda c: server.listing(ingress("third.com"), version="60"),
        lambda c: server.listing(ingress("fourth.com"), version="70"),
    ]
    server.watches = [
        lambda c: server.drop(c, added[:40]),
        lambda c: server.end(c),
        lambda c: server.hang(c, *(added[i:i + 3] for i in range(0, len(added), 3)), gone),
        lambda c: server.hang(c, b"\n\nnot json\n"),
        lambda c: simple_response(b"{}", status="410 Gone"),
        lambda c: server.hang(c, event("MODIFIED", ingress("last.com"))),
    ]
    config = world.rig.write_kubeconfig(world.directory / "plain", {"token": "t"}, {
        "server": f"http://127.0.0.1:{server.port}"})
    gateway = world.gateway("--update-status=false", kubeconfig=config, watch=False)
    wait_until(lambda: gateway.get(host="last.com").status == 503, 20, "the last event")
    assert [gateway.get(host=f"{h}.com").status for h in ("first", "pieces", "second", "third", "fourth")] == [404] * 5
    found = kind_of(gateway, "Ingress")
    assert found["relists"] == 3 and found["state"] == "watching", found
    assert not server.lists and not server.watches
    assert len(server.seen) == 14, server.seen
    assert "no mind" in gateway.errors()
    # All of it goes away: the last state stays.
    server.backend.stop()
    time.sleep(0.5)
    assert gateway.get(host="last.com").status == 503


def test_one_leader_and_takeover(world):
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"))
    first = world.gateway("--publish-address", "192.0.2.1")
    wait_until(lambda: is_leader(first), 5, "the first leader")
    second = world.gateway("--publish-address", "192.0.2.2")
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{world.system}/leases/sluice-leader"
    renewed = world.rig.get(lease)["spec"]["renewTime"]
    wait_until(lambda: world.rig.get(lease)["spec"]["renewTime"] != renewed, 10, "a renewal")
    assert not is_leader(second)
    wait_until(lambda: sources(second)["leaseHolder"] == sources(first)["identity"], 5, "the holder")
    # Stopped in order, the lease is free at once.
    first.stop()
    wait_until(lambda: is_leader(second), 4, "the second leader")
    assert world.rig.get(lease)["spec"]["leaseTransitions"] == 1
    # Killed, it runs out.
    third = world.gateway("--publish-address", "192.0.2.3")
    second.process.kill()
    second.process.wait()
    second.process = None
    killed = time.monotonic()
    assert not is_leader(third)
    wait_until(lambda: is_leader(third), 25, "the third leader")
    assert time.monotonic() - killed > 8
    wait_until(lambda: world.rig.get(f"/apis/networking.k8s.io/v1/namespaces/{world.ns}/ingresses/i")["status"]
               ["loadBalancer"].get("ingress") == [{"ip": "192.0.2.3"}], 5, "the status")


def test_cold_start_from_the_last_known_state(world):
    authority = Authority()
    pair = authority.issue("test.com")
    a = world.backend("a")
    world.service("s", a)
    world.rig.apply(world.ingress("i", "s", secret="cert"), world.ingress("gone", "s", host="gone.com"),
                    tls_secret("cert", pair, namespace=world.ns))
    tap = world.tap()
    state = world.directory / "state"
    flags = ["--state-dir", str(state)]
    kubeconfig = world.kubeconfig(port=tap.port)
    first = world.gateway(*flags, kubeconfig=kubeconfig)
    first.stop()
    file = state / "kubernetes-objects.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [p.name for p in state.iterdir()] == [file.name]

    tap.shut()
    world.rig.delete(world.ingress("gone", "s"))
    world.rig.apply(world.ingress("new", "s", host="new.com"))
    second = world.gateway(*flags, kubeconfig=kubeconfig)
    assert sources(second)["fromDisk"] and metrics(second)["sluice_kubernetes_from_disk"] == 1
    with Traffic(second):
        assert second.get(host="gone.com").status == 200
        assert presented(second, authority, "test.com") == serial(pair)
        tap.reopen()
        wait_until(lambda: second.get(host="new.com").status == 200, 15, "the new state")
        wait_until(lambda: second.get(host="gone.com").status == 404, 5, "what is gone to go")
    assert not sources(second)["fromDisk"]
    wait_until(lambda: "new.com" in file.read_text() and "gone.com" not in file.read_text(), 10, "the state on disk")
    second.stop()
    # A broken file is reported and nothing is served from it.
    file.write_text(file.read_text()[:-20])
    tap.shut()
    third = world.gateway(*flags, kubeconfig=kubeconfig, start=False)
    third.process = subprocess.Popen([str(BINARY), *third.flags], stderr=open(third.error_path, "ab"))
    wait_until(lambda: "is cut short" in third.errors(), 10, "the message")
    assert not third.ready()
    tap.reopen()
    wait_until(third.ready, 15, "readiness with the API server")
    assert third.get().body == b"a"


def test_replacing_the_binary(world):
    """The new process takes over when it has listed everything; nothing is lost, and it becomes the leader."""
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the new process becomes our child
    world.service("s", world.backend("a"))
    world.rig.apply(world.ingress("i", "s"))
    gateway = world.gateway("--publish-address", "192.0.2.1")
    wait_until(lambda: is_leader(gateway), 5, "leadership")
    with Traffic(gateway):
        before = gateway.process
        before.send_signal(signal.SIGUSR2)
        found = wait_until(lambda: re.search(r"started the new binary as process (\d+)", gateway.errors()), 5, "the start")
        assert before.wait(20) == 0
        gateway.process = Adopted(int(found[1]))
        wait_until(gateway.ready, 5, "readiness")
        world.rig.apply(world.ingress("more", "s", host="more.com"))
        wait_until(lambda: gateway.get(host="more.com").status == 200, 5, "a change")
    wait_until(lambda: is_leader(gateway), 6, "leadership again")


def test_the_manifests_are_valid(world):
    """What deploy/kubernetes holds is accepted by the API server as it is."""
    world.rig.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "higress-system"}})
    for name in ("rbac.yaml", "gateway.yaml"):
        for document in yaml.safe_load_all((ROOT / "deploy/kubernetes" / name).read_text()):
            status, answer = world.rig.request(
                "POST", world.rig.path_of(document) + "?dryRun=All&fieldValidation=Strict", document)
            assert status == 201, (name, document["kind"], answer)


def test_many_changes_under_traffic(world):
    """Random changes of Ingresses, endpoints and a certificate, with traffic: nothing fails, nothing goes astray."""
    randomness = random.Random(7)
    authority = Authority()
    names = "abcdef"
    backends = {name: [world.backend(name), world.backend(name)] for name in names}
    for name in names:
        world.service(name, backends[name][0])
        world.rig.apply(world.ingress(name, name, host=f"{name}.com"))
    world.rig.apply(tls_secret("cert", authority.issue("a.com"), namespace=world.ns))
    gateway = world.gateway()
    traffic = [Traffic(gateway, (name.encode(),), host=f"{name}.com", path="/stable") for name in "abc"]
    latencies = []
    with contextlib.ExitStack() as stack:
        for load in traffic:
            stack.enter_context(load)
        for i in range(200):
            name = randomness.choice(names)
            kind = randomness.choice(["path", "endpoints", "secret"])
            if kind == "endpoints":
                world.endpoints(name, randomness.choice(backends[name]))
            elif kind == "secret":
                world.rig.apply(tls_secret("cert", authority.issue("a.com"), namespace=world.ns),
                                world.ingress("a", "a", host="a.com", secret="cert"))
            else:
                # A path that leads to another service, seen as soon as it is live.
                other = randomness.choice(names)
                world.rig.apply(world.ingress("probe", other, host="probe.com", path=f"/{i}"))
                begun = time.monotonic()
                wait_until(lambda: gateway.get(host="probe.com", path=f"/{i}").body == other.encode(), 3, "the change")
                latencies.append(time.monotonic() - begun)
    latencies.sort()
    print(f"{sum(load.count for load in traffic)} requests; {len(latencies)} changes live after "
          f"{latencies[len(latencies) // 2] * 1000:.1f} ms (median), {latencies[-1] * 1000:.1f} ms (worst)")


def test_stopping_before_the_first_picture(world):
    tap = world.tap()
    tap.shut()
    gateway = world.gateway(kubeconfig=world.kubeconfig(port=tap.port), start=False)
    gateway.process = subprocess.Popen([str(BINARY), *gateway.flags], stderr=open(gateway.error_path, "ab"))
    wait_until(lambda: "Ingress" in gateway.admin("/sources") if "watching" in gateway.errors() else False, 10, "the start")
    assert not gateway.ready()
    assert "sluice_kubernetes_synced" in gateway.admin("/stats/prometheus")
    with pytest.raises(ConnectionError):
        gateway.connect()
    gateway.stop()


def test_ten_thousand_ingresses(world):
    """10,000 Ingresses with two paths each, 1,000 Services with 10 endpoints each, 1,000 TLS Secrets: from the start to serving
    within 5 s, and within 100 MiB above the resting size; then a change is live at once."""
    authority = Authority()
    backend = world.backend("a")
    resting = world.gateway()
    rest = resting.resident_kib()
    resting.stop()

    def create(worker, workers):
        connection = world.rig.connection()
        for i in range(worker, 1000, workers):
            world.rig.apply(
                tls_secret(f"c{i}", authority.issue(f"h{i}.com"), namespace=world.ns),
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": world.ns},
                 "spec": {"ports": [{"name": "main", "port": 80}], "clusterIP": "None"}},
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                 "metadata": {"name": f"s{i}", "namespace": world.ns, "labels": {"kubernetes.io/service-name": f"s{i}"}},
                 "ports": [{"name": "main", "port": backend.port}],
                 "endpoints": [{"addresses": [world.address if i == 0 else f"10.9.{i % 250}.{j}"]} for j in range(1, 11)]},
                connection=connection)
        for i in range(worker, 10_000, workers):
            ingress = world.ingress(f"i{i}", f"s{i % 1000}", host=f"h{i}.com", secret=f"c{i}" if i < 1000 else None)
            paths = ingress["spec"]["rules"][0]["http"]["paths"]
            paths.append({**paths[0], "path": "/second", "pathType": "Exact"})
            world.rig.apply(ingress, connection=connection)
        connection.close()
    threads = [threading.Thread(target=create, args=(n, 4)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = time.monotonic()
    gateway = world.gateway()
    seconds = time.monotonic() - begun
    assert kind_of(gateway, "Ingress")["objects"] == 10_000
    for i in (0, 5000, 9000):
        assert gateway.get(host=f"h{i}.com", path="/second").body == b"a"
    assert presented(gateway, authority, "h0.com") and presented(gateway, authority, "h999.com")
    grown = gateway.resident_kib() - rest
    latencies = []
    with Traffic(gateway, host="h0.com"):
        for i in range(100):
            world.rig.apply(world.ingress("i5000", "s0", host="h5000.com", path=f"/{i}"))
            begun = time.monotonic()
            wait_until(lambda: gateway.get(host="h5000.com", path=f"/{i}").status == 200, 2, "the change")
            latencies.append(time.monotonic() - begun)
    latencies.sort()
    print(f"ready after {seconds:.2f} s, {grown / 1024:.1f} MiB above the resting {rest / 1024:.1f} MiB; a change live "
          f"{latencies[50] * 1000:.1f} ms (median), {latencies[-1] * 1000:.1f} ms (worst) after the API server's answer")
    assert is_sanitized() or (seconds < 5 and grown < 100 * 1024 and latencies[50] < 0.1)
