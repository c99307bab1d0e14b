"""Ten thousand routes, loaded and then changed one by one while traffic runs."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import peers as p
from machine import HERE, LOAD_CORE, Failure, on_core
from over_time import first_answer
from report import Row

COUNT = 10_000
CHANGED = COUNT // 2  # the routes below are changed, the others serve the steady traffic
PEER_CHANGES = 10
DOMAIN = "bench.example"


def host(i):
    return f"app-{i}.{DOMAIN}"


SECOND_PATH = "/second"


class ManyRoutes:
    """What the variants below add to a peer: backends a and b, a route for each of COUNT hosts, and a way to move one."""

    second_path = False  # each host has SECOND_PATH too

    def __init__(self, directory, job, second):
        super().__init__(directory, job)
        self.second = second  # port of backend b
        self.staging = self.directory / "staging"
        self.staging.mkdir(exist_ok=True)

    def replace(self, text, path):
        """Puts a file in place at once; returns the time of the rename."""
        staged = self.staging / path.name
        staged.write_text(text)
        began = time.perf_counter()
        os.rename(staged, path)
        return began


class SluiceManyRoutes(ManyRoutes, p.Sluice):
    def manifests(self):
        files = {"registries.json": p.bridge(a=f"127.0.0.1:{self.job.upstream}", b=f"127.0.0.1:{self.second}")}
        for name in "ab":
            files[f"steady-{name}.json"] = p.ingress(f"steady-{name}", f"{name}.static:80", host=f"steady-{name}.{DOMAIN}")
        for i in range(COUNT):
            files[f"app-{i}.json"] = self.route(i, "a")
        return files

    def route(self, i, backend):
        return p.ingress(f"app-{i}", f"{backend}.static:80", host=host(i))

    def move(self, i, backend):
        return self.replace(self.route(i, backend), self.config / f"app-{i}.json")


class NginxManyRoutes(ManyRoutes, p.Nginx):
    def prepare(self):
        super().prepare()
        (self.directory / "routes").mkdir(exist_ok=True)
        for i in range(COUNT):
            self.file(i).write_text(self.route(i, "a"))

    def file(self, i):
        return self.directory / "routes" / f"app-{i}.conf"

    def route(self, i, backend):
        return self.server(host(i), backend)

    def server(self, name, backend):
        forward = f"proxy_pass http://{backend}; proxy_http_version 1.1; proxy_set_header Host $http_host;"
        paths = ["/", f"= {SECOND_PATH}"] if self.second_path else ["/"]
        return (f"server {{ listen 127.0.0.1:{self.port}; server_name {name};\n" +
                "".join(f'location {path} {{ {forward} proxy_set_header Connection ""; }}\n' for path in paths) +
                f"location /chat {{ {forward} proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}\n}}\n")

    def configuration(self):
        upstreams = "\n".join(f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 512; }}"
                              for name, port in (("a", self.job.upstream), ("b", self.second)))
        steady = "".join(self.server(f"steady-{name}.{DOMAIN}", name) for name in "ab")
        return self.main(f"{upstreams}\n{steady}\ninclude routes/*.conf;")

    def move(self, i, backend):
        began = self.replace(self.route(i, backend), self.file(i))
        os.kill(self.process.pid, signal.SIGHUP)  # what `nginx -s reload` does after it has read the configuration once more
        return began


class EnvoyManyRoutes(ManyRoutes, p.Envoy):
    def __init__(self, directory, job, second):
        super().__init__(directory, job, second)
        self.backends = {}
        self.file = self.directory / "routes.json"

    def resource(self):
        def virtual_host(name, backend):
            matches = [{"path": SECOND_PATH}, {"prefix": "/"}] if self.second_path else [{"prefix": "/"}]
            return {"name": name, "domains": [name],
                    "routes": [{"match": match, "route": {"cluster": backend, "timeout": "0s"}} for match in matches]}
        hosts = [virtual_host(f"steady-{name}.{DOMAIN}", name) for name in "ab"]
        hosts += [virtual_host(host(i), self.backends.get(i, "a")) for i in range(COUNT)]
        return json.dumps({"resources": [{"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                                          "name": "routes", "virtual_hosts": hosts}]})

    def manager(self):
        manager = super().manager()
        del manager["route_config"]
        manager["rds"] = {"route_config_name": "routes", "config_source": {
            "resource_api_version": "V3", "path_config_source": {"path": str(self.file)}}}
        return manager

    def bootstrap(self):
        bootstrap = super().bootstrap()
        bootstrap["static_resources"]["clusters"] = [self.cluster("a", self.job.upstream), self.cluster("b", self.second)]
        return bootstrap

    def prepare(self):
        self.file.write_text(self.resource())
        super().prepare()

    def move(self, i, backend):
        self.backends[i] = backend
        return self.replace(self.resource(), self.file)


class Prober:
    """Asks for one host again and again on a kept connection, until another backend answers."""

    def __init__(self, port):
        self.port, self.socket = port, None
        self.requests = self.failed = self.misrouted = 0
        self.details = []

    def backend_of(self, i):
        try:
            if not self.socket:
                self.socket = socket.create_connection(("127.0.0.1", self.port), 10)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(f"GET /items HTTP/1.1\r\nHost: {host(i)}\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < len(p.BODY):
                more = self.socket.recv(16384)
                if not more:
                    raise OSError(f"closed after {len(answer)} bytes of an answer")
                answer += more
                if b" 200 " not in answer.split(b"\r\n", 1)[0]:
                    raise OSError(f"answered {answer[:80]!r}")
            self.requests += 1
            if re.search(rb"\r\nconnection: *close", answer, re.I):
                self.close()
            return re.search(rb"\r\nx-backend: *(\w)", answer, re.I).group(1).decode()
        except OSError as error:
            self.failed += 1
            self.details.append(f"failed: {error!r}")
            self.close()
            return None

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def time_to(self, i, backend, began, seconds=30):
        while True:
            by = self.backend_of(i)
            if by == backend:
                took = time.perf_counter() - began
                break
            if time.perf_counter() > began + seconds:
                raise Failure(f"no effect within {seconds} s")
        for _ in range(3):
            by = self.backend_of(i)
            if by not in (backend, None):
                self.misrouted += 1
                self.details.append(f"misrouted: {host(i)} went back to {by}")
        return took


def change_one_by_one(bench, peer, changes):
    """(seconds from rename to effect, what the traffic saw)."""
    traffic = subprocess.Popen([sys.executable, HERE / "traffic.py", str(peer.port), str(CHANGED), str(COUNT)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    prober, times, backends = Prober(peer.port), [], {}
    try:
        time.sleep(1)
        for n in range(changes):
            i = n * 7919 % CHANGED
            backends[i] = "b" if backends.get(i, "a") == "a" else "a"
            prober.backend_of(i)
            times.append(prober.time_to(i, backends[i], peer.move(i, backends[i])))
            time.sleep(0.01)
        time.sleep(0.5)
    finally:
        prober.close()
        with contextlib.suppress(OSError):
            output, _ = traffic.communicate()
    seen = json.loads(output)
    for key in ("requests", "failed", "misrouted"):
        seen[key] += getattr(prober, key)
    bench.say({peer.name: {**seen, "details": (seen["details"] + prober.details)[:5]}})
    return times, seen


def change(bench):
    second, second_port = p.backend(bench.tools, bench.directory, "b")
    job = p.Job(bench.backend, events=True, websocket=True)
    load, memory, effect, worst, seen = {}, {}, {}, {}, {}
    kinds = {p.Sluice: SluiceManyRoutes, p.Nginx: NginxManyRoutes, p.Envoy: EnvoyManyRoutes}
    try:
        for kind in p.available(kinds):
            name = kind.name
            peer = kinds[kind](bench.directory / f"change-{name}", job, second_port)
            peer.prepare()
            try:
                with on_core(LOAD_CORE):
                    peer.launch()
                    load[name] = [first_answer(peer, host(COUNT - 1)) * 1000]
                    time.sleep(1)
                    memory[name] = [peer.process.proportional_kib() / 1024]
                    times, seen[name] = change_one_by_one(bench, peer, bench.changes if name == "sluice" else PEER_CHANGES)
            finally:
                peer.stop()
            effect[name] = [t * 1000 for t in times]
            worst[name] = [sorted(effect[name])[min(len(times) - 1, len(times) * 99 // 100)]]
    finally:
        second.stop()

    def counted(key):
        return {name: [figures[key]] for name, figures in seen.items()}
    changes = f"{bench.changes:,} changes ({PEER_CHANGES} for the peers)"
    return [Row("change", "10,000 routes: exec to first answer", "ms", load).limit(2000),
            Row("change", "resident memory with them (PSS)", "MiB", memory).limit(100),
            Row("change", f"rename to first request routed by it, p50 of {changes}", "ms", effect),
            Row("change", "the same, p99", "ms", worst).limit(10),
            Row("change", "requests meanwhile", "", counted("requests")),
            Row("change", "failed requests", "", counted("failed")).limit(0),
            Row("change", "misrouted requests", "", counted("misrouted")).limit(0),
            Row("change", "broken event streams and WebSockets", "", counted("broken")).limit(0)]
