"""The scale of a cluster, from a real API server: 10,000 Ingresses with 20,000 paths, 1,000 Services, more than 10,000 endpoints,
1,000 TLS Secrets; then random changes of Ingresses, EndpointSlices and Secrets, one by one, under traffic of every kind.

nginx and Envoy beside it have the same 20,000 routes from files, as in the scenario `change`.
"""

import contextlib
import importlib.util
import itertools
import json
import random
import socket
import ssl
import subprocess
import sys
import threading
import time

import change
import peers as p
from change import CHANGED, COUNT, DOMAIN, PEER_CHANGES, SECOND_PATH, Prober, host
from machine import HERE, LOAD_CORE, ROOT, Failure, on_core
from over_time import first_answer
from report import Row

from kube_rig import Rig, own_address  # of test/, which is on the path by now

spec = importlib.util.spec_from_file_location("test_peers", ROOT / "test/peers.py")  # there is a peers.py here too
test_peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test_peers)

NAMESPACE, SYSTEM = "bench", "higress-system"
SERVICES, ENDPOINTS, SECRETS = 1000, 11, 1000
REAL = 200        # the first services lead to a backend, the others to addresses where nobody listens
PROBED = 100      # services whose endpoints are changed, each with a host of its own that leads there


def wait_for(condition, what, seconds=3.0):
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            raise Failure(f"{what}: no effect within {seconds} s")
    return time.perf_counter()


class Cluster:
    """The objects, and ways to change one. `a` and `b` are the backends' ports at `address`."""

    def __init__(self, directory, a, b, address):
        self.rig = Rig(directory)
        self.ports, self.address = {"a": a, "b": b}, address
        self.authority = test_peers.Authority()
        self.connection = self.rig.connection()
        self.backends, self.certificates = {}, {}

    def service(self, name):
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"clusterIP": "None", "ports": [{"name": "main", "port": 80}]}}

    def slice(self, name, port, addresses):
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"name": "main", "port": port}], "endpoints": [{"addresses": [a]} for a in addresses]}

    def ingress(self, name, host_name, service, secret=None):
        def path(text, kind):
            return {"path": text, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}}
        spec = {"ingressClassName": "higress", "rules": [
            {"host": host_name, "http": {"paths": [path("/", "Prefix"), path(SECOND_PATH, "Exact")]}}]}
        if secret:
            spec["tls"] = [{"hosts": [host_name], "secretName": secret}]
        return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": spec,
                "metadata": {"name": name, "namespace": NAMESPACE}}

    def certificate(self, name, host_name):
        pair = self.authority.issue(host_name)
        return test_peers.tls_secret(name, pair, namespace=NAMESPACE), pair

    def objects(self):
        for name, port in self.ports.items():
            yield from (self.service(name), self.slice(name, port, [self.address]))
            yield self.ingress(f"steady-{name}", f"steady-{name}.{DOMAIN}", name, "steady" if name == "a" else None)
        yield json.loads(self.certificate("steady", f"steady-a.{DOMAIN}")[0])
        for i in range(SERVICES):
            real = i < REAL
            yield self.service(f"s{i}")
            yield self.slice(f"s{i}", self.ports["a"],
                             [self.address] if real else [f"10.{9 + i // 250}.{i % 250}.{n}" for n in range(1, 3 + ENDPOINTS)])
        for i in range(SECRETS):
            yield json.loads(self.certificate(f"c{i}", host(i))[0])
        for i in range(COUNT):
            # Services from PROBED to REAL serve whatever the traffic or a probe of an Ingress asks.
            service = f"s{PROBED + i % (REAL - PROBED)}" if i < SECRETS + PROBED or i >= CHANGED else f"s{i % SERVICES}"
            if SECRETS <= i < SECRETS + PROBED:
                service = f"s{i - SECRETS}"
            yield self.ingress(f"app-{i}", host(i), service, f"c{i}" if i < SECRETS else None)

    def fill(self):
        self.rig.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in (NAMESPACE, SYSTEM)))
        objects, lock, errors = self.objects(), threading.Lock(), []

        def work():
            connection = self.rig.connection()
            try:
                while True:
                    with lock:
                        batch = list(itertools.islice(objects, 20))
                    if not batch:
                        return
                    self.rig.apply(*batch, connection=connection)
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise Failure(f"cannot create the objects: {errors[0]}")

    def apply(self, document):
        """Replaces an object; returns the time of the API server's answer."""
        self.rig.apply(json.loads(document) if isinstance(document, str) else document, connection=self.connection)
        return time.perf_counter()


class SluiceInCluster(p.Sluice):
    def __init__(self, directory, job, kubeconfig):
        super().__init__(directory, job)
        self.kubeconfig = kubeconfig
        self.tls_port, = p.free_ports(1)

    def prepare(self):
        pass

    def command(self):
        return [self.binary, "serve", "--kubeconfig", self.kubeconfig, "--watch-namespace", NAMESPACE, "--update-status=false",
                "--bind", "127.0.0.1", "--http-port", self.port, "--https-port", self.tls_port, "--admin-port", self.admin,
                "--workers", 1, "--access-log", "off"]


ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname, ANY_CERTIFICATE.verify_mode = False, ssl.CERT_NONE


def presented(peer, name):
    """The certificate that a host shows, in DER."""
    with socket.create_connection(("127.0.0.1", peer.tls_port), 10) as plain:
        with ANY_CERTIFICATE.wrap_socket(plain, server_hostname=name) as s:
            return s.getpeercert(binary_form=True)


def change_at_random(cluster, peer, prober, changes):
    """Seconds from the API server's answer to the effect, by kind of change."""
    took, backends, randomness = {"Ingress": [], "EndpointSlice": [], "Secret": []}, {}, random.Random(5)
    for _ in range(changes):
        kind = randomness.choice(list(took))
        if kind == "Secret":
            i = randomness.randrange(SECRETS)
            secret, pair = cluster.certificate(f"c{i}", host(i))
            der = ssl.PEM_cert_to_DER_cert(pair[0])
            began = cluster.apply(secret)
            effect = wait_for(lambda: presented(peer, host(i)) == der, f"Secret c{i}")
        else:
            i = randomness.randrange(PROBED) + (SECRETS if kind == "EndpointSlice" else SECRETS + PROBED)
            backends[i] = wanted = "b" if backends.get(i, "a") == "a" else "a"
            prober.backend_of(i)
            if kind == "EndpointSlice":
                began = cluster.apply(cluster.slice(f"s{i - SECRETS}", cluster.ports[wanted], [cluster.address]))
            else:
                began = cluster.apply(cluster.ingress(f"app-{i}", host(i), wanted))
            effect = wait_for(lambda: prober.backend_of(i) == wanted, f"{kind} of {host(i)}")
            for _ in range(2):
                if prober.backend_of(i) not in (wanted, None):
                    prober.misrouted += 1
        took[kind].append(max(effect - began, 0))
    return took


def run_in_cluster(bench, directory):
    address = own_address()
    directory.mkdir()
    processes = []
    for name in "ab":
        process, port = p.backend(bench.tools, directory, name, address=address)
        processes.append((process, port))
    cluster, peer = None, None
    try:
        with on_core(LOAD_CORE):
            cluster = Cluster(directory / "rig", processes[0][1], processes[1][1], address)
            cluster.fill()
        job = p.Job(bench.backend)
        resting = p.Sluice(directory / "resting", job).start()
        time.sleep(1)
        rest = resting.process.proportional_kib()
        resting.stop()
        peer = SluiceInCluster(directory / "sluice", job, cluster.rig.kubeconfig)
        with on_core(LOAD_CORE):
            peer.launch()
            ready = first_answer(peer, host(COUNT - 1)) * 1000
            time.sleep(1)
            grown = (peer.process.proportional_kib() - rest) / 1024
            authority = directory / "ca.pem"
            authority.write_text(cluster.authority.pem)
            traffic = subprocess.Popen([sys.executable, HERE / "traffic.py", str(peer.port), str(CHANGED), str(COUNT),
                                        str(peer.tls_port), str(authority)], text=True, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE)
            prober = Prober(peer.port)
            try:
                time.sleep(1)
                try:
                    took = change_at_random(cluster, peer, prober, bench.kube_changes)
                except Exception as error:
                    raise Failure(f"{error}; the gateway says: {peer.process.errors()}") from error
                time.sleep(0.5)
            finally:
                prober.close()
                with contextlib.suppress(OSError):
                    output, _ = traffic.communicate()
        seen = json.loads(output)
        for key in ("requests", "failed", "misrouted"):
            seen[key] += getattr(prober, key)
        bench.say({"sluice": {**seen, "details": (seen["details"] + prober.details)[:5]}})
        bench.say({kind: f"{len(t)} changes, p50 {percentile(t, 50):.2f} ms, p99 {percentile(t, 99):.2f} ms, "
                         f"worst {max(t) * 1000:.2f} ms" for kind, t in took.items() if t})
        return ready, grown, [t for times in took.values() for t in times], seen
    finally:
        if peer:
            peer.stop()
        if cluster:
            cluster.rig.stop()
        for process, _ in processes:
            process.stop()


def percentile(times, percent):
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)] * 1000


def kube(bench):
    ready, grown, times, seen = run_in_cluster(bench, bench.directory / "kube")
    load, effect, worst, traffic = {"sluice": [ready]}, {"sluice": [t * 1000 for t in times]}, {}, {"sluice": seen}
    worst["sluice"] = [percentile(times, 99)]
    second, second_port = p.backend(bench.tools, bench.directory, "b")
    job = p.Job(bench.backend, events=True, websocket=True)
    try:
        for kind, many in ((p.Nginx, change.NginxManyRoutes), (p.Envoy, change.EnvoyManyRoutes)):
            if kind not in p.available([kind]):
                continue
            peer = type(many.__name__, (many,), {"second_path": True})(bench.directory / f"kube-{kind.name}", job, second_port)
            peer.prepare()
            try:
                with on_core(LOAD_CORE):
                    peer.launch()
                    load[kind.name] = [first_answer(peer, host(COUNT - 1)) * 1000]
                    changed, traffic[kind.name] = change.change_one_by_one(bench, peer, PEER_CHANGES)
            finally:
                peer.stop()
            effect[kind.name] = [t * 1000 for t in changed]
            worst[kind.name] = [percentile(changed, 99)]
    finally:
        second.stop()

    def counted(key):
        return {name: [figures[key]] for name, figures in traffic.items()}
    changes = f"{bench.kube_changes:,} random changes ({PEER_CHANGES} for the peers)"
    return [Row("kube", "20,000 paths from an API server: exec to first answer", "ms", load).limit(5000),
            Row("kube", "memory above a gateway with one route (PSS)", "MiB", {"sluice": [grown]}).limit(100),
            Row("kube", f"API server's answer (peers: rename) to effect, p50 of {changes}", "ms", effect),
            Row("kube", "the same, p99", "ms", worst).limit(10),
            Row("kube", "requests meanwhile", "", counted("requests")),
            Row("kube", "failed requests", "", counted("failed")).limit(0),
            Row("kube", "misrouted requests", "", counted("misrouted")).limit(0),
            Row("kube", "broken event streams and WebSockets", "", counted("broken")).limit(0)]
