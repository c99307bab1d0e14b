"""The Kubernetes-style API of a gateway without a cluster: the real kubectl, the official Python client, hand edits
beside them, and death at any moment."""

import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import ssl
import stat
import subprocess
import threading
import time

import kubernetes
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from harness import BINARY, Gateway, bridge, documents, free_port, ingress, wait_until
from kube_rig import BINARIES, CRD_MCP_BRIDGE, KUBE, Rig


@pytest.fixture(scope="session")
def kubectl_binary():
    subprocess.run([KUBE / "build.sh", "kubectl"], check=True, timeout=1800)
    return BINARIES / "kubectl"


class Kubectl:
    def __init__(self, binary, kubeconfig, home):
        self.binary = binary
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    def start(self, *words, **options):
        return subprocess.Popen([self.binary, *words], env=self.environment, stdout=subprocess.PIPE, text=True, **options)

    def run(self, *words, stdin=None, editor=None):
        environment = {**self.environment, **({"KUBE_EDITOR": editor} if editor else {})}
        return subprocess.run([self.binary, *words], env=environment, input=stdin, text=True, capture_output=True,
                              timeout=30)

    def __call__(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


class ApiGateway(Gateway):
    """A gateway with the API, and kubectl for it."""

    def __init__(self, directory, binary):
        self.api_port = free_port()
        state = pathlib.Path(directory).parent / "state"
        self.kubeconfig = pathlib.Path(directory).parent / "kubeconfig"
        super().__init__(directory, "--api-port", self.api_port, "--state-dir", state, "--write-kubeconfig",
                         self.kubeconfig)
        self.token_file = state / "api-token"
        self.kubectl = Kubectl(binary, self.kubeconfig, pathlib.Path(directory).parent)
        self.flags = [str(word) for word in self.flags]

    def api_connection(self):
        context = ssl.create_default_context(cafile=self.token_file.parent / "api-tls.pem")
        return http.client.HTTPSConnection("127.0.0.1", self.api_port, timeout=5, context=context)

    def client(self):
        return kubernetes.config.new_client_from_config(str(self.kubeconfig))


@pytest.fixture
def gateway(tmp_path, kubectl_binary):
    gateway = ApiGateway(tmp_path / "conf", kubectl_binary)
    yield gateway
    gateway.stop()


def route(name, destination="web.static:80", host="test.com", namespace="default", **annotations):
    return ingress(name, destination, host=host, namespace=namespace, annotations=annotations)


# --- kubectl


def test_a_route_is_live_when_apply_returns(gateway, start_backend):
    backend = start_backend()
    gateway.write("bridge.yaml", bridge(web=backend.address))
    gateway.start()
    assert gateway.get().status == 404
    assert gateway.kubectl("apply", "-f", "-", stdin=route("one")) == "ingress.networking.k8s.io/one created\n"
    assert gateway.get().status == 200
    gateway.kubectl("annotate", "ingress", "one", "higress.io/rewrite-target=/new")
    gateway.get()
    assert backend.requests[-1].path == "/new"
    gateway.kubectl("edit", "ingress", "one", editor="sed -i s/test.com/other.com/")
    assert gateway.get(host="other.com").status == 200
    assert gateway.get().status == 404
    gateway.kubectl("patch", "ingress", "one", "--type=json", "-p",
                    '[{"op": "replace", "path": "/spec/rules/0/host", "value": "third.com"}]')
    assert gateway.get(host="third.com").status == 200
    gateway.kubectl("delete", "ingress", "one")
    assert gateway.get(host="third.com").status == 404
    assert not (gateway.directory / "ingresses/default/one.yaml").exists()


def test_layout_and_modes(gateway):
    gateway.start()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}
    gateway.kubectl("apply", "-n", "higress-system", "-f", "-", stdin=json.dumps(secret))
    gateway.kubectl("apply", "-n", "team", "-f", "-", stdin=json.dumps(secret))
    own, other = gateway.directory / "secrets/s.yaml", gateway.directory / "secrets/team/s.yaml"
    for path, namespace in ((own, "higress-system"), (other, "team")):
        stored = yaml.safe_load(path.read_text())
        assert stored["metadata"]["namespace"] == namespace and stored["data"] == {"k": "dg=="}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(gateway.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(gateway.kubeconfig.stat().st_mode) == 0o600
    gateway.kubectl("delete", "namespace", "team")
    assert not other.exists() and own.exists()
    # What a client never asked for is not in the log.
    token = gateway.token_file.read_text().strip()
    assert token not in gateway.errors()


def test_an_object_is_changed_where_it_is(gateway, start_backend):
    backend = start_backend()
    first = "# by hand\n" + yaml.safe_dump(json.loads(bridge(web=backend.address))) + "# to stay\n"
    gateway.write("hand.yaml", first + "---\n# the route\n" + yaml.safe_dump(json.loads(route("one"))))
    gateway.start()
    gateway.kubectl("label", "ingress", "one", "team=a")
    text = (gateway.directory / "hand.yaml").read_text()
    assert text.startswith(first + "---\n# the route\napiVersion:")
    assert list(yaml.safe_load_all(text))[1]["metadata"]["labels"] == {"team": "a"}
    gateway.kubectl("delete", "ingress", "one")
    assert (gateway.directory / "hand.yaml").read_text() == first
    # A broken file is not touched, and the message says why.
    gateway.write("hand.yaml", first + "broken: [\n")
    wait_until(lambda: "hand.yaml" in gateway.errors(), 5, "the syntax error")
    refused = gateway.kubectl.run("label", "mcpbridge", "-n", "higress-system", "default", "a=b")
    assert refused.returncode == 1 and "correct it by hand first" in refused.stderr
    assert (gateway.directory / "hand.yaml").read_text() == first + "broken: [\n"


def test_bad_objects_are_refused_with_the_field(gateway):
    gateway.start()
    bad = json.loads(route("bad", host="not a host"))
    done = gateway.kubectl.run("apply", "-f", "-", stdin=json.dumps(bad))
    assert done.returncode == 1 and "is invalid: spec.rules[0].host: " in done.stderr
    bad = json.loads(route("bad"))
    bad["spec"]["rulez"] = []
    done = gateway.kubectl.run("apply", "-f", "-", stdin=json.dumps(bad))
    assert done.returncode == 1 and 'unknown field "spec.rulez"' in done.stderr
    done = gateway.kubectl.run("apply", "--validate=warn", "-f", "-", stdin=json.dumps(bad))
    assert done.returncode == 0 and 'Warning: unknown field "spec.rulez"' in done.stderr
    plugin = {"apiVersion": "extensions.higress.io/v1alpha1", "kind": "WasmPlugin", "metadata": {"name": "p"}, "spec": {}}
    assert "not read by this gateway" in gateway.kubectl.run("apply", "-f", "-", stdin=json.dumps(plugin)).stderr


def test_events_say_what_is_wrong(gateway, start_backend):
    gateway.write("bridge.yaml", bridge(web=start_backend().address))
    gateway.start()
    assert "No resources found" in gateway.kubectl.run("get", "events", "-A").stderr
    gateway.kubectl("apply", "-f", "-", stdin=route("older"))
    time.sleep(1.1)  # of two of the same age the name decides
    gateway.kubectl("apply", "-f", "-", stdin=route("younger"))
    gateway.kubectl("apply", "-n", "team", "-f", "-", stdin=route("odd", host="odd.com", namespace="team", **{"higress.io/enable-canary": "what"}))
    shown = gateway.kubectl("get", "events")
    assert "ingress/younger" in shown and "older" in shown and "ingress/odd" not in shown
    assert "ingress/odd" in gateway.kubectl("get", "events", "-A") and "ingress/odd" in gateway.kubectl("get", "ev", "-n", "team")
    described = gateway.kubectl("describe", "ingress", "younger")
    assert "Warning" in described.split("Events:")[1] and "sluice" in described
    assert "<none>" in gateway.kubectl("describe", "ingress", "older").split("Events:")[1]
    name = json.loads(gateway.kubectl("get", "events", "-o", "json"))["items"][0]["metadata"]["name"]
    assert gateway.kubectl("get", "event", name, "-o", "name") == f"event/{name}\n"
    assert gateway.kubectl.run("delete", "event", name).returncode == 1
    gateway.kubectl("delete", "ingress", "older")
    assert "No resources found" in gateway.kubectl.run("get", "events").stderr


def test_both_kinds_of_change_appear_in_a_watch(gateway):
    gateway.start()
    watch = gateway.kubectl.start("get", "configmaps", "-w", "--no-headers", "-o",
                                  "custom-columns=N:.metadata.name,K:.data.k", bufsize=1)
    try:
        lines = []
        threading.Thread(target=lambda: lines.extend(iter(watch.stdout.readline, "")), daemon=True).start()
        manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {k: %s}\n"
        seen = lambda word: wait_until(lambda: any(line.split() == word.split() for line in lines), 5, word)  # noqa: E731
        gateway.kubectl("apply", "-f", "-", stdin=manifest % ("api", "one"))
        seen("api one")
        gateway.write("hand.yaml", manifest % ("hand", "two"))
        seen("hand two")
        path = gateway.directory / "configmaps/default/api.yaml"
        path.write_text(path.read_text().replace("k: one", "k: three"))
        seen("api three")
    finally:
        watch.kill()
        watch.wait()


# --- the same commands, here and with a real API server

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%s, labels: {n: '%s'}}\ndata: {k: v}\n"
ROUTE = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: r}
spec:
  rules: [{host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n"
BRIDGE = """apiVersion: networking.higress.io/v1
kind: McpBridge
metadata: {name: default}
spec: {registries: [{name: a, type: static, domain: "10.0.0.1:80", port: 80}]}
"""
OWNED = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {%s}\n"
SHARED = "apiVersion: v1\nkind: Service\nmetadata: {name: shared}\nspec:\n  ports:\n  %s\n"
# Words of kubectl, what it reads, its editor; the last tells whether its output is the same too.
COMMANDS = [
    (["apply", "-f", "-"], SERVICE, None, True),
    (["apply", "-f", "-"], SERVICE, None, True),
    (["create", "-f", "-"], SERVICE, None, True),
    (["diff", "-f", "-"], SERVICE, None, True),
    (["diff", "-f", "-"], SERVICE.replace("8080", "9090"), None, False),
    (["apply", "--dry-run=server", "-f", "-"], SERVICE.replace("8080", "9090"), None, True),
    (["apply", "-f", "-"], SERVICE.replace("8080", "9090"), None, True),
    (["get", "service", "web", "-o", "jsonpath={.spec.ports[*].targetPort}"], None, None, True),
    (["patch", "service", "web", "-p", '{"spec": {"ports": [{"name": "https", "port": 443}]}}'], None, None, True),
    (["get", "service", "web", "-o", "jsonpath={.spec.ports[*].port} {.spec.ports[*].name}"], None, None, True),
    (["patch", "service", "web", "-p", '{"spec": {"ports": [{"port": 443, "$patch": "delete"}]}}'], None, None, True),
    (["get", "service", "web", "-o", "jsonpath={.spec.ports[*].port}"], None, None, True),
    (["label", "service", "web", "a=b"], None, None, True),
    (["label", "service", "web", "a=c"], None, None, True),
    (["get", "service", "-l", "app in (web),a=b", "-o", "name"], None, None, True),
    (["get", "service", "-l", "a=c", "-o", "name"], None, None, False),
    (["get", "service", "-l", "((", "-o", "name"], None, None, False),
    (["apply", "-f", "-"], ROUTE % "a.com", None, True),
    (["edit", "ingress", "r"], None, "sed -i s/a.com/b.com/", True),
    (["get", "ingress", "r", "-o", "jsonpath={.spec.rules[0].host} {.metadata.generation}"], None, None, True),
    (["edit", "ingress", "r"], None, "true", True),
    (["patch", "ingress", "r", "--subresource=status", "--type=merge", "-p",
      '{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}, "spec": {"rules": []}}'], None, None, True),
    (["get", "ingress", "r", "--subresource=status", "-o", "jsonpath={.status} {.spec.rules[0].host} {.metadata.generation}"], None,
     None, True),
    (["patch", "ingress", "r", "--type=merge", "-p", '{"status": {"loadBalancer": {"ingress": []}}}'], None, None, True),
    (["get", "ingress", "r", "-o", "jsonpath={.status}"], None, None, True),
    (["patch", "configmap", "c1", "--subresource=status", "--type=merge", "-p", "{}"], None, None, True),
    (["api-resources", "-o", "name", "--api-group=networking.higress.io", "--namespaced"], None, None, False),
    (["get", "ingress", "r"], None, None, False),
    (["apply", "-f", "-"], (ROUTE % "a.com").replace("host: a.com", "host: 'A_b c'"), None, False),
    (["apply", "-f", "-"], ROUTE % "a.com" + "  what: 1\n", None, False),
    (["replace", "-f", "-"], ROUTE % "c.com", None, True),
    (["replace", "-f", "-"], (ROUTE % "c.com").replace("name: r", "name: r, resourceVersion: '1'"), None, False),
    (["replace", "-f", "-"], CONFIG % (9, 9), None, True),
    (["apply", "--server-side", "-f", "-"], CONFIG % (1, 1), None, True),
    (["apply", "--server-side", "-f", "-"], (CONFIG % (1, 1)).replace("k: v", "k: w"), None, True),
    (["get", "configmap", "c1", "-o", "jsonpath={.data}"], None, None, True),
    (["apply", "-f", "-"], CONFIG % (2, 2) + "---\n" + CONFIG % (3, 3), None, True),
    (["get", "configmap", "--field-selector", "metadata.name=c2", "-o", "name"], None, None, True),
    (["get", "configmap", "--field-selector", "spec.x=c2", "-o", "name"], None, None, False),
    (["get", "configmap", "c1", "c2", "c9", "-o", "name"], None, None, True),
    (["get", "configmap", "-l", "n", "--chunk-size=1", "-o", "name"], None, None, True),
    (["patch", "configmap", "c1", "--type=merge", "-p", '{"data": {"k": null, "x": "y"}}'], None, None, True),
    (["patch", "configmap", "c1", "--type=json", "-p", '[{"op": "test", "path": "/data/x", "value": "n"}]'], None, None,
     False),
    (["patch", "configmap", "c1", "--type=json", "-p", '[{"op": "add", "path": "/data/z", "value": "1"}]'], None, None,
     True),
    (["get", "configmap", "c1", "-o", "jsonpath={.data}"], None, None, True),
    (["patch", "configmap", "c1", "--type=merge", "-p", '{"data": {"k": 1}}'], None, None, False),
    (["label", "configmap", "c1", "bad=a b"], None, None, False),
    (["apply", "-f", "-"], SECRET, None, True),
    (["get", "secret", "s", "-o", "jsonpath={.data} {.type}"], None, None, True),
    (["patch", "secret", "s", "-p", '{"type": "other"}'], None, None, False),
    (["apply", "-f", "-"], BRIDGE, None, True),
    (["apply", "-f", "-"], BRIDGE.replace("port: 80}", "port: 81}"), None, True),
    (["patch", "mcpbridge", "default", "-p", '{"spec": {}}'], None, None, False),
    (["patch", "mcpbridge", "default", "--type=merge", "-p", '{"spec": {"registries": []}}'], None, None, True),
    (["get", "mcpbridge", "default", "-o", "jsonpath={.spec} {.metadata.generation}"], None, None, True),
    # Server-side apply: who owns what.
    (["apply", "--server-side", "-f", "-"], OWNED % "a: '1', b: '2'", None, True),
    (["apply", "--server-side", "-f", "-"], OWNED % "a: '1', b: '2'", None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], OWNED % "b: '3'", None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], OWNED % "b: '3', a: '1'", None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], OWNED % "b: '2', c: '4'", None, True),
    (["get", "configmap", "owned", "-o", "jsonpath={.data} " + " ".join(
        f'{{.metadata.managedFields[?(@.manager=="{m}")].fieldsV1}}' for m in ("kubectl", "other"))], None, None, True),
    (["apply", "--server-side", "-f", "-"], OWNED % "a: '1'", None, True),
    (["get", "configmap", "owned", "-o", "jsonpath={.data}"], None, None, True),
    (["apply", "--server-side", "-f", "-"], OWNED % "c: '5'", None, True),
    (["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], OWNED % "c: '5'", None, True),
    (["apply", "--server-side", "--force-conflicts", "-f", "-"], OWNED % "c: '5'", None, True),
    (["get", "configmap", "owned", "-o", "jsonpath={.data}"], None, None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], OWNED % "d: '6'", None, True),
    (["get", "configmap", "owned", "-o", "jsonpath={.data}"], None, None, True),
    (["label", "configmap", "owned", "by=hand"], None, None, True),
    (["patch", "configmap", "owned", "-p", '{"data": {"c": "7"}}'], None, None, True),
    (["apply", "--server-side", "-f", "-"], OWNED % "c: '5'", None, True),
    (["apply", "--server-side", "-f", "-"], OWNED % "c: '7'", None, True),
    (["get", "configmap", "owned", "-o", "jsonpath=" + " ".join(
        f'{{.metadata.managedFields[?(@.manager=="{m}")].fieldsV1}}' for m in ("kubectl", "other", "kubectl-label", "kubectl-patch"))],
     None, None, True),
    (["get", "configmap", "owned", "-o", "jsonpath={.data} {.metadata.labels}"], None, None, True),
    (["apply", "--server-side", "-f", "-"], SHARED % "- {name: http, port: 80, targetPort: 8080, protocol: TCP}", None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], SHARED % "- {name: https, port: 443, targetPort: 8443, protocol: TCP}",
     None, True),
    (["get", "service", "shared", "-o", "jsonpath={.spec.ports[*].port}"], None, None, True),
    (["apply", "--server-side", "-f", "-"], SHARED % "- {name: web, port: 81, targetPort: 8080, protocol: TCP}", None, True),
    (["get", "service", "shared", "-o", "jsonpath={.spec.ports[*].port} {.spec.ports[*].name}"], None, None, False),
    (["apply", "--server-side", "-f", "-"], ROUTE.replace("name: r", "name: owned") % "a.com", None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"], ROUTE.replace("name: r", "name: owned") % "b.com", None, True),
    (["diff", "--server-side", "-f", "-"], ROUTE.replace("name: r", "name: owned") % "a.com", None, True),
    (["apply", "--server-side", "-f", "-"], SECRET.replace("name: s", "name: owned"), None, True),
    (["apply", "--server-side", "-f", "-"], SECRET.replace("name: s", "name: owned").replace("k: v", "j: w"), None, False),
    (["apply", "--server-side", "-f", "-"], BRIDGE.replace("name: default", "name: owned"), None, True),
    (["apply", "--server-side", "--field-manager=other", "-f", "-"],
     BRIDGE.replace("port: 80}", "port: 81}").replace("name: default", "name: owned"), None, True),
    (["get", "mcpbridge", "owned", "-o", "jsonpath={.metadata.managedFields[*].manager}"], None, None, True),
    (["delete", "configmap/owned", "service/shared", "ingress/owned", "secret/owned", "mcpbridge/owned"], None, None, True),
    # Those that send the objects in Kubernetes' binary form.
    (["create", "configmap", "bin", "--from-literal=a=b", "--from-literal=empty="], None, None, True),
    (["create", "configmap", "bin", "--from-literal=a=b"], None, None, True),
    (["create", "configmap", "bin2", "--from-literal=a=b", "--dry-run=server"], None, None, True),
    (["get", "configmap", "bin", "-o", "jsonpath={.data}"], None, None, True),
    (["create", "secret", "generic", "bin", "--from-literal=k=\u00e9", "--type=example.com/t"], None, None, True),
    (["create", "secret", "docker-registry", "dock", "--docker-username=u", "--docker-password=p"], None, None, True),
    (["get", "secret", "bin", "dock", "-o", "jsonpath={.items[*].data} {.items[*].type}"], None, None, True),
    (["create", "service", "clusterip", "bin", "--tcp=80:8080", "--tcp=443:https"], None, None, True),
    (["create", "service", "externalname", "ext", "--external-name=example.com"], None, None, True),
    (["get", "service", "bin", "ext", "-o", "jsonpath={.items[*].spec.ports} {.items[*].spec.selector} "
      "{.items[*].spec.externalName} {.items[*].spec.type} {.items[*].metadata.labels}"], None, None, True),
    (["create", "ingress", "bin", "--class=higress", "--rule=a.com/x*=bin:80,tls=cert", "--rule=*.b.com/=bin:https",
      "--default-backend=ext:80", "--annotation=higress.io/rewrite-target=/y"], None, None, True),
    (["get", "ingress", "bin", "-o", "jsonpath={.spec} {.metadata.annotations}"], None, None, True),
    (["create", "ingress", "bad", "--rule=A_b c/=bin:80"], None, None, False),
    (["create", "namespace", "team"], None, None, True),
    (["create", "configmap", "far", "-n", "team"], None, None, True),
    (["delete", "configmap/bin", "configmap/far", "service/bin", "service/ext", "ingress/bin", "secret/bin",
      "secret/dock"], None, None, False),
    (["get", "nothing"], None, None, True),
    (["api-resources", "--namespaced=false", "-o", "name", "--api-group=networking.k8s.io"], None, None, False),
    (["auth", "can-i", "delete", "secrets"], None, None, True),
    (["describe", "service", "web"], None, None, False),
    (["explain", "ingress.spec.rules"], None, None, False),
    (["delete", "configmap", "c9"], None, None, True),
    (["delete", "configmap", "c9", "--ignore-not-found"], None, None, True),
    (["delete", "configmap", "c2", "--dry-run=server"], None, None, True),
    (["delete", "configmap", "c2"], None, None, True),
    (["delete", "configmap", "-l", "n"], None, None, True),
    (["delete", "-f", "-"], SERVICE, None, True),
    (["delete", "ingress,mcpbridge,secret", "--all"], None, None, True),
    (["get", "ingress,mcpbridge,secret"], None, None, False),
]


def test_as_a_real_api_server(gateway, kubectl_binary, tmp_path):
    rig = Rig(tmp_path / "kube")
    try:
        rig.apply(CRD_MCP_BRIDGE)
        wait_until(lambda: rig.request("GET", "/apis/networking.higress.io/v1/namespaces/default/mcpbridges")[0] == 200, 15)
        gateway.start()
        real = Kubectl(kubectl_binary, rig.kubeconfig, tmp_path / "kube")
        different = []
        for words, stdin, editor, same_output in COMMANDS:
            ours, theirs = (kubectl.run(*words, stdin=stdin, editor=editor) for kubectl in (gateway.kubectl, real))
            # What it says of a conflict is the API's text.
            conflict = "FieldManagerConflict" in theirs.stderr or "Apply failed" in theirs.stderr
            if ours.returncode != theirs.returncode or (same_output and ours.stdout != theirs.stdout) or (
                    conflict and ours.stderr != theirs.stderr):
                different.append((words, ours, theirs))
        assert not different, "\n".join(map(str, different))
    finally:
        rig.stop()


# --- the Python client


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}}, "data": data}


def test_python_client(gateway):
    gateway.start()
    core = kubernetes.client.CoreV1Api(gateway.client())
    created = core.create_namespaced_config_map("default", config_map("a", k="1"))
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map("default", config_map("a"))
    assert (caught.value.status, json.loads(caught.value.body)["reason"]) == (409, "AlreadyExists")
    changed = core.patch_namespaced_config_map("a", "default", {"data": {"k": "2"}})
    assert int(changed.metadata.resource_version) > int(created.metadata.resource_version)
    assert (changed.metadata.uid, changed.metadata.creation_timestamp) == (
        created.metadata.uid, created.metadata.creation_timestamp)
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("a", "default", created)
    assert (caught.value.status, json.loads(caught.value.body)["reason"]) == (409, "Conflict")
    dry = core.patch_namespaced_config_map("a", "default", {"data": {"k": "3"}}, dry_run="All")
    assert dry.data == {"k": "3"} and core.read_namespaced_config_map("a", "default").data == {"k": "2"}

    listed = core.list_namespaced_config_map("default")
    for i in range(7):
        core.create_namespaced_config_map("default", config_map(f"p{i}"))
    core.delete_namespaced_config_map("p0", "default")
    events = [(e["type"], e["object"].metadata.name) for e in kubernetes.watch.Watch().stream(
        core.list_namespaced_config_map, "default", resource_version=listed.metadata.resource_version, timeout_seconds=1)]
    assert events == [*(("ADDED", f"p{i}") for i in range(7)), ("DELETED", "p0")]
    names, token = [], None
    while token != "":
        page = core.list_namespaced_config_map("default", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        assert len(page.items) <= 3
        token = page.metadata._continue or ""
    assert names == ["a", *(f"p{i}" for i in range(1, 7))]
    core.delete_collection_namespaced_config_map("default", label_selector="n in (p1,p2)")
    assert len(core.list_namespaced_config_map("default").items) == 5
    with pytest.raises(ApiException) as caught:
        next(kubernetes.watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version="1"))
    assert caught.value.status == 410


def test_conflicting_writers_lose_nothing(gateway):
    gateway.start()
    core = kubernetes.client.CoreV1Api(gateway.client())
    core.create_namespaced_config_map("default", config_map("counter", n="0"))
    conflicts = []

    def count():
        own = kubernetes.client.CoreV1Api(gateway.client())
        done = 0
        while done < 20:
            read = own.read_namespaced_config_map("counter", "default")
            read.data["n"] = str(int(read.data["n"]) + 1)
            try:
                own.replace_namespaced_config_map("counter", "default", read)
                done += 1
            except ApiException as error:
                assert error.status == 409
                conflicts.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert core.read_namespaced_config_map("counter", "default").data == {"n": "80"}
    assert conflicts


def test_versions_grow_over_a_restart(gateway):
    gateway.start()
    core = kubernetes.client.CoreV1Api(gateway.client())
    before = core.create_namespaced_config_map("default", config_map("a"))
    gateway.stop()
    gateway.start()
    after = kubernetes.client.CoreV1Api(gateway.client()).read_namespaced_config_map("a", "default")
    assert int(after.metadata.resource_version) > int(before.metadata.resource_version)
    assert after.metadata.uid == before.metadata.uid


# --- who may come in, and how much


def test_only_with_the_token(gateway):
    gateway.start()
    token = gateway.token_file.read_text().strip()
    for headers, status in (({"Authorization": "Bearer " + token}, 200), ({}, 401), ({"Authorization": "Bearer x"}, 401),
                            ({"Authorization": "Bearer " + token[:-1]}, 401), ({"Authorization": token}, 401)):
        connection = gateway.api_connection()
        connection.request("GET", "/api/v1/secrets", headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert (response.status, answer["kind"]) == (status, "SecretList" if status == 200 else "Status")
        connection.close()


def test_bodies_are_bounded(gateway):
    gateway.start()
    with pytest.raises(ApiException) as caught:
        kubernetes.client.CoreV1Api(gateway.client()).create_namespaced_config_map(
            "default", config_map("big", k="x" * (3 << 20)))
    assert caught.value.status == 413


def test_kubeconfig_subcommand(gateway, kubectl_binary, tmp_path):
    gateway.start()
    made = subprocess.run([BINARY, "kubeconfig", "--api-port", str(gateway.api_port), "--state-dir",
                           gateway.token_file.parent, "-n", "higress-system"], check=True, capture_output=True, text=True)
    path = tmp_path / "made"
    path.write_text(made.stdout)
    assert Kubectl(kubectl_binary, path, tmp_path)("get", "ns", "-o", "name") == \
        "namespace/default\nnamespace/higress-system\n"


# --- death at any moment


def test_killed_while_writing(tmp_path, kubectl_binary):
    """200 times, after a random moment of writing: what was acknowledged is there, and every file is whole."""
    gateway = ApiGateway(tmp_path / "conf", kubectl_binary)
    chance = random.Random(7)
    acknowledged = {}  # name: the last value that was acknowledged
    uncertain = {}     # name: later values whose fate was not told
    started = time.monotonic()
    cycles = 0
    while cycles < 200 and time.monotonic() < started + 60:
        cycles += 1
        gateway.process = subprocess.Popen([str(BINARY), *gateway.flags], stderr=open(gateway.error_path, "ab"),
                                           stdout=subprocess.DEVNULL)
        # The port answers some milliseconds after the start.
        victim = gateway.process
        killer = threading.Timer(0.03 + chance.random() * 0.08, lambda v=victim: v.send_signal(signal.SIGKILL))
        killer.start()
        write_until_dead(gateway, cycles, acknowledged, uncertain)
        victim.wait(10)
        killer.join()
        if cycles % 10 == 0 or cycles == 200:
            check_files(gateway.directory, acknowledged, uncertain)
    check_files(gateway.directory, acknowledged, uncertain)
    assert cycles >= 100 and len(acknowledged) >= 4, (cycles, acknowledged)
    gateway.start()
    left = [p for p in gateway.directory.rglob(".*") if p.is_file()]
    assert left == []
    gateway.stop()
    shutil.rmtree(gateway.directory)


def write_until_dead(gateway, cycle, acknowledged, uncertain):
    headers = {"Content-Type": "application/apply-patch+yaml"}
    number = 0
    while True:
        try:
            if "Authorization" not in headers:
                headers["Authorization"] = "Bearer " + gateway.token_file.read_text().strip()
            connection = gateway.api_connection()
            connection.connect()
            break
        except (OSError, ValueError):
            if gateway.process.poll() is not None:
                return
            time.sleep(0.001)
    while True:
        name, value = f"m{number % 8}", f"{cycle}-{number}"
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                           "data": {"v": value, "pad": "x" * 2000}})
        uncertain.setdefault(name, set()).add(value)
        try:
            connection.request("PATCH", f"/api/v1/namespaces/default/configmaps/{name}?fieldManager=t", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            return
        assert response.status in (200, 201), answer
        acknowledged[name] = value
        del uncertain[name]
        number += 1


def check_files(directory, acknowledged, uncertain):
    found = {}
    for path in directory.rglob("*.yaml"):
        stored = yaml.safe_load(path.read_text())
        assert len(stored["data"]["pad"]) == 2000
        found[stored["metadata"]["name"]] = stored["data"]["v"]
    for name, value in acknowledged.items():
        assert found.get(name) in {value} | uncertain.get(name, set()), (name, value, found.get(name))
