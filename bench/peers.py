"""Sluice and the proxies it is measured beside, each configured for the same job.

Every peer keeps connections alive on both sides without limits on their use, writes no access log (but the variant of
Sluice that shows what the log costs), runs one worker, and is left at its lightest where features differ: nginx and
HAProxy add no forwarding fields here, Sluice and Envoy add those they always add (x-request-id, x-forwarded-*), and
Sluice and Envoy count their metrics.
"""

import base64
import dataclasses
import json
import pathlib
import shutil
import socket
import sys
import time

from machine import LOAD_CORE, PROXY_CORE, ROOT, Failure, Process, free_ports

sys.path.insert(0, str(ROOT / "test"))
from harness import bridge, ingress  # noqa: E402

HOST = "localhost"  # a name that load generators can resolve and present as SNI
BODY = b"0" * 100


@dataclasses.dataclass
class Job:
    """What a scenario wants of a proxy: where requests go, and what they look like."""
    upstream: int                 # port on loopback
    upstream_http2: bool = False
    tls: dict = None              # make_certificate()'s; None: plaintext
    http2: bool = False           # clients speak HTTP/2: by prior knowledge, or with TLS by ALPN
    table: tuple = None           # (hosts, prefixes): host h has prefixes /p0 … ; None: one route for everything
    connections: int = 1024       # client connections at a time
    events: bool = False          # an event stream: nothing may wait in a buffer
    websocket: bool = False
    flags: tuple = ()             # Sluice: further flags
    manifests: dict = None        # Sluice: file name → text, instead of the routes above


def table_host(i):
    return f"host-{i}.bench.example"


class Peer:
    name = "?"

    def __init__(self, directory, job):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.job = job
        self.port, = free_ports(1)
        self.process = None

    def prepare(self):
        """Writes the configuration."""

    def command(self):
        raise NotImplementedError

    def launch(self):
        self.process = Process(self.command(), PROXY_CORE, self.directory, "output")
        return self

    def start(self):
        self.prepare()
        self.launch()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not self.process.running():
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                if self.ready():
                    return self
            except OSError:
                pass
            time.sleep(0.01)
        raise Failure(f"{self.name} did not start: {self.process.errors()}")

    def ready(self):
        return True

    def stop(self):
        if self.process:
            self.process.stop()


class Floor(Peer):
    name = "floor"

    def command(self):
        return [ROOT / "build/bench/floor", self.port, self.job.upstream]


class Sluice(Peer):
    name = "sluice"
    binary = ROOT / "build/release/sluice"
    access_log = "off"

    def __init__(self, directory, job):
        super().__init__(directory, job)
        self.admin, = free_ports(1)
        self.config = self.directory / "conf"

    def prepare(self):
        self.config.mkdir(exist_ok=True)
        for name, text in (self.job.manifests or self.manifests()).items():
            (self.config / name).write_text(text)

    def manifests(self):
        job, destination = self.job, "backend.static:80"
        files = {"registries.json": bridge(backend=f"127.0.0.1:{job.upstream}")}
        notes = {"higress.io/backend-protocol": "GRPC"} if job.upstream_http2 else {}
        if job.table:
            hosts, prefixes = job.table
            paths = [(f"/p{p}", "Prefix") for p in range(prefixes)]
            for h in range(hosts):
                files[f"host-{h}.json"] = ingress(f"host-{h}", destination, host=table_host(h), paths=paths)
        elif job.tls:
            files["route.json"] = ingress("route", destination, host=HOST, tls_secret="bench", annotations=notes)
            files["secret.json"] = json.dumps({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": "bench", "namespace": "higress-system"},
                "data": {"tls.crt": base64.b64encode(job.tls["cert"].read_bytes()).decode(),
                         "tls.key": base64.b64encode(job.tls["key"].read_bytes()).decode()}})
        else:
            files["route.json"] = ingress("route", destination, annotations=notes)
        return files

    def command(self):
        ports = ["--http-port", 0, "--https-port", self.port] if self.job.tls else ["--http-port", self.port, "--https-port", 0]
        return [self.binary, "serve", "--config", self.config, "--bind", "127.0.0.1", *ports, "--admin-port", self.admin,
                "--workers", 1, "--access-log", self.access_log, "--max-connections", self.job.connections + 100,
                *self.job.flags]


class SluiceWithLog(Sluice):
    name = "sluice+log"
    access_log = "access.log"


class Nginx(Peer):
    name = "nginx"

    def prepare(self):
        (self.directory / "nginx.conf").write_text(self.configuration())

    def configuration(self):
        job = self.job
        listen = f"listen 127.0.0.1:{self.port} backlog=4096" + (" ssl" if job.tls else "") + (" http2" if job.http2 else "")
        tls = ""
        if job.tls:
            tls = (f"ssl_certificate {job.tls['cert']}; ssl_certificate_key {job.tls['key']}; ssl_protocols TLSv1.3;"
                   "ssl_ecdh_curve X25519; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"
                   "ssl_session_cache shared:tls:10m; ssl_session_tickets on;")
        if job.upstream_http2:
            forward = "grpc_pass grpc://backend;"
        elif job.websocket:
            forward = ("proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Host $http_host;"
                       "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;")
        else:
            forward = ("proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Host $http_host;"
                       'proxy_set_header Connection "";')
        if job.table:
            hosts, prefixes = job.table
            locations = " ".join(f"location /p{p} {{ {forward} }}" for p in range(prefixes))
            servers = "\n".join(f"server {{ listen 127.0.0.1:{self.port}; server_name {table_host(h)}; {locations} }}"
                                for h in range(hosts))
        else:
            servers = f"server {{ {listen}; {tls} location / {{ {forward} }} }}"
        if job.table:
            servers = f"server {{ {listen} default_server; return 404; }}\n" + servers
        return self.main(f"""
upstream backend {{ server 127.0.0.1:{job.upstream}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 3600s; }}
{servers}
""")

    def main(self, servers):
        streaming = "proxy_buffering off;" if self.job.events or self.job.websocket else "proxy_max_temp_file_size 0;"
        return f"""
worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid nginx.pid; error_log error.log;
events {{ worker_connections {min(19900, 2 * self.job.connections + 100)}; }}
http {{
access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
proxy_request_buffering off; {streaming} proxy_read_timeout 3600s; proxy_send_timeout 3600s;
server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
{servers}
}}
"""

    def command(self):
        return ["nginx", "-p", self.directory, "-c", self.directory / "nginx.conf", "-e", self.directory / "error.log"]


class HAProxy(Peer):
    name = "haproxy"

    def prepare(self):
        job = self.job
        bind = f"bind 127.0.0.1:{self.port} backlog 4096"
        if job.tls:
            bind += (f" ssl crt {job.tls['both']} ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256 curves X25519"
                     f" alpn {'h2,' if job.http2 else ''}http/1.1")
        elif job.http2:
            bind += " proto h2"
        routes = "default_backend backend"
        if job.table:
            hosts, prefixes = job.table
            (self.directory / "routes.map").write_text(
                "".join(f"{table_host(h)}/p{p} backend\n" for h in range(hosts) for p in range(prefixes)))
            routes = f"use_backend %[base,map_beg({self.directory}/routes.map)]"
        (self.directory / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  no strict-limits
  maxconn {job.connections + 100}
  tune.ssl.lifetime 3600
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout connect 5s
  http-reuse always
  {"option http-no-delay" if job.events else ""}
frontend front
  {bind}
  {routes}
backend backend
  server one 127.0.0.1:{job.upstream} {"proto h2" if job.upstream_http2 else ""}
""")

    def command(self):
        return ["haproxy", "-db", "-f", self.directory / "haproxy.cfg"]


class Envoy(Peer):
    name = "envoy"
    binary = next(iter(ROOT.glob("build/venv-bench/lib/python3*/site-packages/envoy/_bin/envoy")), None)

    def cluster(self, name, port):
        most = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 1000000, "max_retries": 1000}
        cluster = {"name": name, "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [most]},
                   "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                       "socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}}
        if self.job.upstream_http2:
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}}
        return cluster

    def routes(self):
        def to(prefix):
            return {"match": {"prefix": prefix}, "route": {"cluster": "backend", "timeout": "0s"}}
        if not self.job.table:
            return [{"name": "all", "domains": ["*"], "routes": [to("/")]}]
        hosts, prefixes = self.job.table
        return [{"name": f"h{h}", "domains": [table_host(h)], "routes": [to(f"/p{p}") for p in range(prefixes)]}
                for h in range(hosts)]

    def manager(self):
        return {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "front", "stream_idle_timeout": "0s",
                "upgrade_configs": [{"upgrade_type": "websocket"}] if self.job.websocket else [],
                "route_config": {"name": "routes", "virtual_hosts": self.routes()},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}

    def bootstrap(self):
        job = self.job
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": self.manager()}]}
        if job.tls:
            chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                                   "ecdh_curves": ["X25519"]},
                    "alpn_protocols": (["h2"] if job.http2 else []) + ["http/1.1"],
                    "tls_certificates": [{"certificate_chain": {"filename": str(job.tls["cert"])},
                                          "private_key": {"filename": str(job.tls["key"])}}]}}}
        listener = {"name": "front", "tcp_backlog_size": 4096, "filter_chains": [chain],
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}}
        return {"node": {"id": "bench", "cluster": "bench"},
                "static_resources": {"listeners": [listener], "clusters": [self.cluster("backend", job.upstream)]}}

    def prepare(self):
        (self.directory / "envoy.json").write_text(json.dumps(self.bootstrap()))

    def command(self):
        if not self.binary:
            raise Failure("Envoy is not installed: scripts/setup.sh bench installs it")
        return [self.binary, "-c", self.directory / "envoy.json", "--concurrency", 1, "--disable-hot-restart", "-l", "error"]


ALL = (Floor, Sluice, SluiceWithLog, Nginx, HAProxy, Envoy)
GATEWAYS = (Sluice, Nginx, HAProxy, Envoy)


def available(kinds):
    """Those of the peers that are installed."""
    missing = [k for k in kinds if (k is Envoy and not Envoy.binary) or (k in (Nginx, HAProxy) and not shutil.which(k.name))]
    return [k for k in kinds if k not in missing]


def backend(tools, directory, name="a", grpc=False, address="127.0.0.1"):
    """Starts a backend on the load core; returns (process, port)."""
    port, = free_ports(1)
    command = [tools["grpc_backend"], port] if grpc else [tools["backend"], port, name, address]
    process = Process(command, LOAD_CORE, directory, f"backend-{name}")
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return process, port
        except OSError:
            if not process.running():
                raise Failure(f"the backend did not start: {process.errors()}")
            time.sleep(0.01)


def get(port, path="/", host=HOST, close=True):
    """One GET over a plain socket: (status, head, body)."""
    with socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{'Connection: close' if close else 'Accept: */*'}\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = s.recv(65536)
            if not more:
                raise OSError(f"closed after {data!r}")
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            more = s.recv(65536)
            if not more:
                raise OSError("closed within the body")
            body += more
        return int(head.split(b" ")[1]), head, body


def wait_for_answer(peer, **request):
    """Waits until the peer answers the right thing; a gateway may listen before its routes are there."""
    end = time.monotonic() + 30
    last = None
    while time.monotonic() < end:
        try:
            status, head, body = get(peer.port, **request)
            if status == 200 and body == BODY:
                return
            last = (status, head, body[:200])
        except OSError as error:
            last = error
        time.sleep(0.02)
    raise Failure(f"{peer.name} does not answer rightly: {last}; {peer.process.errors()}")
