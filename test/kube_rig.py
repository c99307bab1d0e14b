"""A real API server for the tests: etcd and kube-apiserver, built once from their published Go modules (test/kube), on
free ports of this machine."""

import base64
import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import urllib.request

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness import ROOT, free_port, wait_until

KUBE = ROOT / "test/kube"
BINARIES = pathlib.Path(os.environ.get("SLUICE_KUBE_DIR", pathlib.Path.home() / ".cache/sluice-test/kube"))

MERGE_PATCH = "application/merge-patch+json"


def own_address():
    """An address of this machine that the API takes in an EndpointSlice: it refuses loopback ones."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        # Nothing is sent: connecting a datagram socket only chooses the route.
        s.connect(("192.0.2.1", 9))
        return s.getsockname()[0]


class Rig:
    """etcd and an API server. `api()` speaks to it as cluster-admin."""

    def __init__(self, directory):
        subprocess.run([KUBE / "build.sh", "etcd", "kube-apiserver"], check=True, timeout=1800)
        self.directory = pathlib.Path(directory)
        self.port, self.etcd_port, etcd_peer_port = free_port(), free_port(), free_port()
        self.pki = self.directory / "pki"
        self.make_pki()
        self.kubeconfig = self.directory / "kubeconfig"
        self.write_kubeconfig(self.kubeconfig, {
            "client-certificate": str(self.pki / "admin.crt"), "client-key": str(self.pki / "admin.key")})
        etcd = f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{etcd_peer_port}"
        self.etcd = subprocess.Popen(
            [BINARIES / "etcd", "--name", "t", "--data-dir", self.directory / "etcd", "--unsafe-no-fsync",
             "--log-level", "warn", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}"],
            stdout=open(self.directory / "etcd.log", "ab"), stderr=subprocess.STDOUT)
        self.apiserver = None
        self.start_apiserver()

    # --- certificates

    def make_pki(self):
        self.pki.mkdir(parents=True)
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
        now = datetime.datetime.now(datetime.timezone.utc)

        def builder(subject, key):
            return (x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(key.public_key())
                    .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                    .not_valid_after(now + datetime.timedelta(days=30)))

        def save(name, certificate, key):
            (self.pki / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            (self.pki / f"{name}.key").write_bytes(key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

        def issue(name, attributes, usage, alternatives=()):
            key = ec.generate_private_key(ec.SECP256R1())
            made = builder(x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes]), key).add_extension(
                x509.ExtendedKeyUsage([usage]), critical=False)
            if alternatives:
                made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            save(name, made.sign(ca_key, hashes.SHA256()), key)

        ca = builder(ca_name, ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        save("ca", ca.sign(ca_key, hashes.SHA256()), ca_key)
        issue("apiserver", [(NameOID.COMMON_NAME, "kube-apiserver")], ExtendedKeyUsageOID.SERVER_AUTH,
              [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"),
               x509.DNSName("kubernetes.default.svc")])
        issue("admin", [(NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "admin")],
              ExtendedKeyUsageOID.CLIENT_AUTH)
        accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.pki / "accounts.key").write_bytes(accounts.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))

    def write_kubeconfig(self, path, user, cluster=None):
        pathlib.Path(path).write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
            "clusters": [{"name": "t", "cluster": cluster or {
                "server": f"https://127.0.0.1:{self.port}",
                "certificate-authority-data": base64.b64encode((self.pki / "ca.crt").read_bytes()).decode()}}],
            "users": [{"name": "t", "user": user}]}))
        return path

    # --- processes

    def start_apiserver(self):
        self.apiserver = subprocess.Popen(
            [BINARIES / "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{self.etcd_port}",
             "--secure-port", str(self.port), "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
             "--tls-cert-file", self.pki / "apiserver.crt", "--tls-private-key-file", self.pki / "apiserver.key",
             "--client-ca-file", self.pki / "ca.crt", "--service-account-key-file", self.pki / "accounts.key",
             "--service-account-signing-key-file", self.pki / "accounts.key",
             "--service-account-issuer", "https://kubernetes.default.svc", "--service-cluster-ip-range", "10.96.0.0/16",
             # Without a controller manager no Pod or default service account would ever come to be.
             "--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount",
             "--endpoint-reconciler-type", "none", "--profiling=false", "--v", "1",
             "--shutdown-delay-duration", "0s", "--watch-cache-sizes", "secrets#100"],
            stdout=open(self.directory / "apiserver.log", "ab"), stderr=subprocess.STDOUT)
        wait_until(self.ready, 90, "the API server")

    def ready(self):
        if self.apiserver.poll() is not None:
            raise AssertionError((self.directory / "apiserver.log").read_text()[-2000:])
        try:
            return self.request("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop_apiserver(self, kill=False):
        self.apiserver.kill() if kill else self.apiserver.terminate()
        try:
            self.apiserver.wait(5)
        except subprocess.TimeoutExpired:
            self.apiserver.kill()
            self.apiserver.wait()

    def stop(self):
        for process in (self.apiserver, self.etcd):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    # --- the API

    def context(self):
        context = ssl.create_default_context(cafile=self.pki / "ca.crt")
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return context

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.context())

    def request(self, method, path, body=None, content_type="application/json", connection=None):
        own = connection or self.connection()
        try:
            own.request(method, path, None if body is None else json.dumps(body), {"Content-Type": content_type})
            response = own.getresponse()
            data = response.read()
            with contextlib.suppress(ValueError):
                data = json.loads(data)
            return response.status, data
        finally:
            if connection is None:
                own.close()

    @staticmethod
    def path_of(document, plural=None):
        version, kind = document["apiVersion"], document["kind"]
        plural = plural or {"Ingress": "ingresses", "IngressClass": "ingressclasses"}.get(kind, kind.lower() + "s")
        path = ("/apis/" if "/" in version else "/api/") + version
        cluster_wide = ("IngressClass", "Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
        if kind not in cluster_wide:
            path += "/namespaces/" + document["metadata"].get("namespace", "default")
        return f"{path}/{plural}"

    def apply(self, *documents, connection=None):
        """Creates or replaces each object. A text may hold several, in YAML or JSON."""
        for document in self.documents(documents):
            path = self.path_of(document)
            name = document["metadata"]["name"]
            status, answer = self.request("POST", path, document, connection=connection)
            if status == 409:
                status, answer = self.request("PATCH", f"{path}/{name}", document, MERGE_PATCH, connection=connection)
            assert status in (200, 201), (path, status, answer)

    def delete(self, *documents):
        for document in self.documents(documents):
            status, answer = self.request("DELETE", f"{self.path_of(document)}/{document['metadata']['name']}")
            assert status in (200, 202, 404), answer

    @staticmethod
    def documents(given):
        for item in given:
            if isinstance(item, str):
                yield from (d for d in yaml.safe_load_all(item) if d)
            else:
                yield item

    def get(self, path):
        status, answer = self.request("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def token(self, namespace, account, seconds=3600):
        status, answer = self.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}})
        assert status == 201, answer
        return answer["status"]["token"]

    def etcd_request(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.etcd_port}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())

    def compact(self):
        """Makes etcd forget the past: watches that are behind get 410 Gone."""
        revision = self.etcd_request("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        self.etcd_request("/v3/kv/compaction", {"revision": revision, "physical": True})


CRD_MCP_BRIDGE = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "mcpbridges.networking.higress.io"},
    "spec": {"group": "networking.higress.io", "scope": "Namespaced",
             "names": {"kind": "McpBridge", "plural": "mcpbridges", "singular": "mcpbridge", "listKind": "McpBridgeList"},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                 "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


class Tap:
    """A TCP forwarder in front of the API server that can be shut."""

    def __init__(self, port):
        self.target = port
        self.open = True
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            try:
                if not self.open:
                    raise OSError("shut")
                onward = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                accepted.close()
                continue
            onward.settimeout(None)
            self.sockets += [accepted, onward]
            for source, sink in ((accepted, onward), (onward, accepted)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def drop(self):
        """Ends every connection."""
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.sockets = []

    def shut(self):
        self.open = False
        self.drop()

    def reopen(self):
        self.open = True

    def stop(self):
        self.shut()
        self.listener.close()
