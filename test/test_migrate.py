"""`sluice migrate`: what becomes of objects that were written for another gateway."""

import json
import subprocess

import pytest

from harness import BINARY, bridge, documents, ingress
from kube_rig import Rig
from peers import manifest

PREFIX = "metadata.annotations[nginx.ingress.kubernetes.io/"


def nginx_ingress(name="web", annotations=None, ingress_class="nginx", path="/api", path_type="Prefix"):
    return json.dumps({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default", "annotations": {
            f"nginx.ingress.kubernetes.io/{key}": value for key, value in (annotations or {}).items()}},
        "spec": {"ingressClassName": ingress_class, "rules": [{"host": "a.com", "http": {"paths": [
            {"path": path, "pathType": path_type, "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}})


SERVICE = manifest("Service", "s", spec={"ports": [{"port": 80}]})


def run(*arguments):
    done = subprocess.run([str(BINARY), "migrate", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def report(directory, source="ingress-nginx", *flags):
    status, out, errors = run(source, directory, "-o", "json", *flags)
    assert status in (0, 1), errors
    objects = {o["object"]: o for o in json.loads(out)["objects"]}
    return status, objects, json.loads(out)["summary"]


def findings(entry):
    return {f["field"]: f for f in entry["findings"]}


@pytest.fixture
def directory(tmp_path):
    def write(*texts):
        (tmp_path / "all.yaml").write_text(documents(*texts))
        return tmp_path
    return write


def test_what_works_and_what_does_not(directory):
    where = directory(SERVICE, nginx_ingress(annotations={
        "enable-cors": "true", "use-regex": "maybe", "canary-weight": "7", "nonsense": "1"}, path="/a(.*)",
        path_type="ImplementationSpecific"), nginx_ingress("other", ingress_class="foo"))
    status, objects, summary = report(where)
    assert status == 1 and summary["unsupported"] == 2
    found = findings(objects["Ingress default/web"])
    assert found[PREFIX + "enable-cors]"]["verdict"] == "works"
    assert found[PREFIX + "canary-weight]"]["verdict"] == "changes" and found[PREFIX + "canary-weight]"]["what"]
    assert found[PREFIX + "nonsense]"]["verdict"] == "unsupported" and found[PREFIX + "nonsense]"]["advice"]
    # One that is known but whose value is wrong does not work.
    assert found[PREFIX + "use-regex]"]["verdict"] == "unsupported" and "maybe" in found[PREFIX + "use-regex]"]["what"]
    other = findings(objects["Ingress default/other"])["spec.ingressClassName"]
    assert other["verdict"] == "unsupported" and "--ingress-class foo" in other["advice"]


def test_exit_status(directory):
    assert report(directory(SERVICE, nginx_ingress(annotations={"enable-cors": "true"})))[0] == 0
    where = directory(SERVICE, nginx_ingress(path_type="ImplementationSpecific"))
    status, objects, summary = report(where)
    assert status == 0 and summary["changes"] == 1
    assert report(where, "ingress-nginx", "--strict")[0] == 1
    assert run("ingress-nginx", where / "absent")[0] == 2
    assert run("ingress-nginx")[0] == 2


def test_global_options_and_other_kinds(directory):
    where = directory(
        manifest("ConfigMap", "ingress-nginx-controller", data={"use-gzip": "true", "use-http2": "true", "geoip2-autoreload-in-minutes": "3"}),
        manifest("ConfigMap", "tcp-services", data={"9000": "default/db:9000"}),
        manifest("VirtualService", "v", spec={}, api="networking.istio.io/v1"), manifest("Deployment", "d", spec={}, api="apps/v1"))
    status, objects, _ = report(where)
    assert status == 1
    options = findings(objects["ConfigMap default/ingress-nginx-controller"])
    assert options["data.use-gzip"]["verdict"] == "changes" and "higress-config" in options["data.use-gzip"]["advice"]
    assert options["data.use-http2"]["verdict"] == "works"
    assert options["data.geoip2-autoreload-in-minutes"]["verdict"] == "unsupported"
    assert findings(objects["ConfigMap default/tcp-services"])["data"]["verdict"] == "unsupported"
    others = json.dumps(objects)
    assert "VirtualService" in others and "Deployment" not in others


def test_text(directory):
    status, out, _ = run("ingress-nginx", directory(SERVICE, nginx_ingress(annotations={"nonsense": "1", "enable-cors": "true"})))
    assert status == 1
    assert "Ingress default/web (" in out and "): unsupported\n" in out
    assert "\n  works       metadata.annotations[nginx.ingress.kubernetes.io/enable-cors]\n" in out
    assert out.endswith("1 objects: 0 work unchanged, 0 change, 1 need work\n")


def test_higress(directory):
    where = directory(bridge(be="127.0.0.1:1"), ingress("all", "be.static:80", annotations={"higress.io/timeout": "3"}))
    status, objects, _ = report(where, "higress")
    assert status == 0 and objects["McpBridge higress-system/default"]["verdict"] == "works"
    # The class of Higress is the default there.
    assert report(where, "ingress-nginx")[0] == 1


def test_secrets_stay(directory):
    where = directory(manifest("Secret", "s", type="Opaque", data={"auth": "bm90LWh0cGFzc3dk"}),
                      nginx_ingress(annotations={"auth-type": "basic", "auth-secret": "s"}))
    _, out, errors = run("ingress-nginx", where)
    assert "bm90LWh0cGFzc3dk" not in out + errors and "not-htpasswd" not in out + errors


def test_a_cluster(tmp_path):
    rig = Rig(tmp_path / "rig")
    try:
        rig.apply(SERVICE, nginx_ingress(annotations={"nonsense": "1"}),
                  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "higress-system"}})
        status, out, errors = run("ingress-nginx", "--kubeconfig", rig.kubeconfig, "-o", "json")
        assert status == 1, errors
        objects = {o["object"]: o for o in json.loads(out)["objects"]}
        assert findings(objects["Ingress default/web"])[PREFIX + "nonsense]"]["verdict"] == "unsupported"
    finally:
        rig.stop()
    status, _, errors = run("ingress-nginx", "--kubeconfig", tmp_path / "absent")
    assert status == 2 and "absent" in errors
