"""CPU time per request: a load generator drives each proxy in turn, round after round."""

import contextlib
import json
import re
import socket
import subprocess
import sys

import peers as p
from machine import HERE, Failure, run_load
from report import Row


@contextlib.contextmanager
def running(bench, name, job, kinds):
    """The peers of these kinds, started for the job: {name: peer}."""
    started = {}
    try:
        for kind in p.available(kinds):
            peer = kind(bench.directory / f"{name}-{kind.name}", job)
            started[kind.name] = peer
            peer.start()
        yield started
    finally:
        for peer in started.values():
            peer.stop()


def interleaved(bench, peers, load, rounds=None):
    """{name: [µs of CPU per request]}: rounds over all peers, the first (short) one thrown away. `load(peer, seconds)`
    returns how many requests were answered rightly."""
    samples = {name: [] for name in peers}
    names = list(peers)
    for round_number in range(-1, rounds or bench.rounds):
        for name in names:
            before = peers[name].process.cpu()
            try:
                count = load(peers[name], bench.seconds if round_number >= 0 else 0.5)
            except Failure as failure:
                raise Failure(f"{name}: {failure}") from None
            used = peers[name].process.cpu() - before
            if round_number >= 0:
                samples[name].append(used / count * 1e6)
        names.append(names.pop(0))  # nobody always comes after the same neighbour
    bench.say({name: [round(v, 1) for v in values] for name, values in samples.items()})
    return samples


def wrk(url, seconds, connections=32, script=None, host=None, env=None):
    script = ["-s", HERE / script] if script else []
    host = ["-H", f"Host: {host}"] if host else []
    for duration in (max(1, round(seconds)), 5):
        text = run_load(["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "10s", *host,
                         "-H", "User-Agent: bench/1.0", "-H", "Accept: */*", *script, url], env)
        if "Non-2xx" in text or "Socket errors" in text:
            raise Failure(text)
        count = int(re.search(r"(\d+) requests in", text).group(1))
        if count:  # on a crowded machine wrk may not get to its first request within a second
            return count
    raise Failure(text)


def h2load(url, count, connections=8, streams=16, more=(), env=None):
    text = run_load(["h2load", f"-n{count}", f"-c{connections}", f"-m{streams}", "-t1", *more, url], env)
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    good = re.search(r"status codes: (\d+) 2xx", text)
    if not done or not good or int(good.group(1)) != count or int(done.group(1)) != count:
        raise Failure(text)
    return count


def plain_url(peer, path="/"):
    return f"http://127.0.0.1:{peer.port}{path}"


def secure_url(peer, path="/"):
    return f"https://{p.HOST}:{peer.port}{path}"


# --- the scenarios


def small(bench):
    job = p.Job(bench.backend)
    with running(bench, "small", job, p.ALL) as peers:
        for peer in peers.values():
            p.wait_for_answer(peer)
        samples = interleaved(bench, peers, lambda peer, s: wrk(plain_url(peer), s))
    return [Row("small", "HTTP/1.1 keep-alive GET, 100 bytes", "µs", samples).at_most(1.25, "floor")]


TABLE = (1000, 10)


def routes(bench):
    one, many = p.Job(bench.backend), p.Job(bench.backend, table=TABLE)
    with running(bench, "routes-one", one, p.GATEWAYS) as ones, running(bench, "routes-many", many, p.GATEWAYS) as manies:
        for peer in ones.values():
            p.wait_for_answer(peer, host=p.table_host(999), path="/p9/x")
        for peer in manies.values():
            p.wait_for_answer(peer, host=p.table_host(999), path="/p9/x")
            status, _, _ = p.get(peer.port, host="other.example", path="/p9/x")
            if status not in (404, 503):
                raise Failure(f"{peer.name} routes a host that it does not have: {status}")
        both = {f"{name}/one": peer for name, peer in ones.items()} | {f"{name}/many": peer for name, peer in manies.items()}
        order = [f"{name}/{which}" for name in ones for which in ("one", "many")]
        samples = interleaved(bench, {name: both[name] for name in order},
                              lambda peer, s: wrk(plain_url(peer), s, script="routes.lua"), 2 * bench.rounds)
    def part(which):
        return {name: samples[f"{name}/{which}"] for name in ones}
    ratio = {name: [m / o for o, m in zip(samples[f"{name}/one"], samples[f"{name}/many"])] for name in ones}
    return [Row("routes", "one route", "µs", part("one")), Row("routes", "1,000 hosts × 10 prefixes", "µs", part("many")),
            Row("routes", "the table's cost: many / one", "×", ratio).limit(1.03)]


# Ten filters that all run for each request and let it pass: CORS, rate limit, header control and rewrite by annotation, six
# more by list.
TEN_FILTERS = {
    "higress.io/enable-cors": "true",
    "higress.io/route-limit-rps": "1000000",
    "higress.io/request-header-control-add": "x-bench-a one",
    "higress.io/request-header-control-remove": "x-unwanted",
    "higress.io/response-header-control-add": "x-bench-b two",
    "higress.io/rewrite-path": "/rewritten",
    "sluice.io/filters": json.dumps([
        {"name": "fault", "config": {"abort": {"status": 503, "percentage": 0}}},
        {"name": "compression", "config": {"min_content_length": 1024}},
        {"name": "local-rate-limit", "config": {"requests_per_unit": 1000000}},
        {"name": "header-control", "config": {"request": {"update": [{"name": "x-bench-c", "value": "%REQ(user-agent)%"}]}}},
        {"name": "header-control", "config": {"response": {"remove": ["x-powered-by"]}}},
        {"name": "header-control", "config": {"request": {"remove": ["x-debug"]},
                                              "response": {"update": [{"name": "x-frame-options", "value": "DENY"}]}}},
    ]),
}


class OneHost:
    """One of the two hosts of the same process: its layout in memory is the same for both."""

    def __init__(self, peer, host):
        self.process, self.port, self.host = peer.process, peer.port, host


def filters(bench):
    destination = "backend.static:80"
    job = p.Job(bench.backend, manifests={
        "registries.json": p.bridge(backend=f"127.0.0.1:{bench.backend}"),
        "none.json": p.ingress("none", destination, host="none.example"),
        "ten.json": p.ingress("ten", destination, host="ten.example", annotations=TEN_FILTERS)})
    with running(bench, "filters", job, [p.Sluice]) as peers:
        peer = peers["sluice"]
        for host in ("none.example", "ten.example"):
            p.wait_for_answer(peer, host=host)
        _, head, _ = p.get(peer.port, host="ten.example")
        if b"x-bench-b: two" not in head.lower() or b"x-frame-options: deny" not in head.lower():
            raise Failure(f"the filters do not run: {head}")
        hosts = {host: OneHost(peer, f"{host}.example") for host in ("none", "ten")}
        samples = interleaved(bench, hosts, lambda h, s: wrk(plain_url(h), s, host=h.host), 2 * bench.rounds)
    ratio = [t / n for n, t in zip(samples["none"], samples["ten"])]
    return [Row("filters", "none", "µs", {"sluice": samples["none"]}),
            Row("filters", "ten", "µs", {"sluice": samples["ten"]}),
            Row("filters", "ten / none", "×", {"sluice": ratio}).limit(1.10)]


WITHOUT_FLOOR = (p.Sluice, p.Nginx, p.HAProxy, p.Envoy)


def check_secure(bench, peers, alpn):
    """Each peer answers with TLS 1.3, AES-128-GCM and the wanted protocol."""
    for peer in peers.values():
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{peer.port}", "-servername", p.HOST, "-alpn", alpn, "-brief"]
        done = subprocess.run(command, input=b"", capture_output=True, env={**bench.environment, **bench.tls["client"]}, timeout=20)
        text = (done.stdout + done.stderr).decode(errors="replace")
        if "TLSv1.3" not in text or "TLS_AES_128_GCM_SHA256" not in text:
            raise Failure(f"{peer.name}: not the TLS that was asked for: {text}")


def https(bench):
    job = p.Job(bench.backend, tls=bench.tls)
    with running(bench, "https", job, WITHOUT_FLOOR) as peers:
        check_secure(bench, peers, "http/1.1")
        samples = interleaved(bench, peers, lambda peer, s: wrk(secure_url(peer), s, env=bench.tls["client"]))
    return [Row("https", "HTTPS keep-alive GET, 100 bytes", "µs", samples).below("haproxy")]


def tls_new(bench):
    job = p.Job(bench.backend, tls=bench.tls)
    rows = []
    with running(bench, "tls", job, WITHOUT_FLOOR) as peers:
        check_secure(bench, peers, "http/1.1")
        for kind, what in (("new", "full handshake"), ("resume", "resumed by ticket")):
            def load(peer, seconds):
                text = run_load([sys.executable, HERE / "tls_client.py", peer.port, p.HOST, seconds, kind], bench.tls["client"])
                result = json.loads(text)
                if result["errors"] or (kind == "resume") != (result["resumed"] > 0.98 * result["requests"]):
                    raise Failure(text)
                return result["requests"]
            samples = interleaved(bench, peers, load)
            rows.append(Row("tls_new", f"one connection per GET, {what}", "µs", samples).below("haproxy"))
    return rows


def h2_count(bench, seconds):
    return max(2000, int(30000 * seconds))


def h2c(bench):
    job = p.Job(bench.backend, http2=True)
    with running(bench, "h2c", job, WITHOUT_FLOOR) as peers:
        samples = interleaved(bench, peers, lambda peer, s: h2load(plain_url(peer), h2_count(bench, s)))
    return [Row("h2c", "h2c → HTTP/1.1 GET, 8 connections × 16 streams", "µs", samples).below("haproxy")]


def h2_tls(bench):
    job = p.Job(bench.backend, http2=True, tls=bench.tls)
    pinned = ["--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519", f"--connect-to=127.0.0.1:{{port}}"]
    with running(bench, "h2tls", job, WITHOUT_FLOOR) as peers:
        check_secure(bench, peers, "h2")
        def load(peer, seconds):
            more = [option.replace("{port}", str(peer.port)) for option in pinned]
            return h2load(secure_url(peer), h2_count(bench, seconds), more=more, env=bench.tls["client"])
        samples = interleaved(bench, peers, load)
    return [Row("h2_tls", "h2 over TLS → HTTP/1.1 GET, 8 × 16", "µs", samples).below("haproxy")]


def grpc(bench):
    process, port = p.backend(bench.tools, bench.directory, "grpc", grpc=True)
    message = bench.directory / "message"
    message.write_bytes(b"\0\0\0\0\x20" + b"m" * 32)
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    job = p.Job(port, http2=True, upstream_http2=True)
    try:
        with running(bench, "grpc", job, (p.Floor, *WITHOUT_FLOOR)) as peers:
            for peer in peers.values():
                text = run_load(["nghttp", "-v", *headers, "-d", message, plain_url(peer, "/bench.Echo/Unary")])
                if not all(part in text for part in (":status: 200", "grpc-status: 0", "content-type: application/grpc")):
                    raise Failure(f"{peer.name} does not forward gRPC: {text}")
            def load(peer, seconds):
                return h2load(plain_url(peer, "/bench.Echo/Unary"), h2_count(bench, seconds), more=["-d", str(message), *headers])
            samples = interleaved(bench, peers, load)
    finally:
        process.stop()
    return [Row("grpc", "unary, h2c → h2c, 8 connections × 16 streams", "µs", samples).below("haproxy")]


def large(bench):
    job = p.Job(bench.backend)
    rows, size = [], 1 << 20
    peak, long_peak = {}, {}
    with running(bench, "large", job, (p.Floor, *WITHOUT_FLOOR)) as peers:
        for peer in peers.values():
            p.wait_for_answer(peer)
            _, _, body = p.get(peer.port, "/large")
            if len(body) != size:
                raise Failure(f"{peer.name} cuts a large response")
        down = interleaved(bench, peers, lambda peer, s: wrk(plain_url(peer, "/large"), s, connections=8))
        up = interleaved(bench, peers, lambda peer, s: wrk(plain_url(peer), s, connections=8, script="upload.lua"))
        for name, peer in peers.items():
            peak[name] = [peer.process.peak_kib() / 1024]
            upload(peer.port, 256 << 20)
            long_peak[name] = [peer.process.peak_kib() / 1024 - peak[name][0]]
    rows.append(Row("large", "1 MiB down, 8 connections", "µs", down).at_most(1.1, "floor"))
    rows.append(Row("large", "1 MiB up, 8 connections", "µs", up).at_most(1.1, "floor"))
    rows.append(Row("large", "peak resident memory of the above", "MiB", peak))
    rows.append(Row("large", "growth of the peak by one body of 256 MiB", "MiB", long_peak).limit(1))
    return rows


def upload(port, size):
    block = b"x" * (1 << 20)
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        s.sendall(f"POST / HTTP/1.1\r\nHost: {p.HOST}\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size >> 20):
            s.sendall(block)
        answer = s.recv(64)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Failure(f"a long upload was answered {answer}")
