"""Event streams, idle connections, start-up, and latency at a fixed rate."""

import json
import socket
import subprocess
import time

import peers as p
from machine import LOAD_CORE, Failure, on_core, run_load
from per_request import WITHOUT_FLOOR, running
from report import Row

STREAMS = 200
EVENTS_PER_SECOND = 50


def sse(bench):
    job = p.Job(bench.backend, events=True)
    samples = {}
    with running(bench, "sse", job, (p.Floor, *WITHOUT_FLOOR)) as peers:
        for round_number in range(bench.rounds):
            for name, peer in peers.items():
                samples.setdefault(name, []).append(cpu_per_event(bench, peer))
    bench.say({name: [round(v, 1) for v in values] for name, values in samples.items()})
    return [Row("sse", f"{STREAMS} streams × {EVENTS_PER_SECOND} events/s, per event", "µs", samples).at_most(1.15, "floor")]


def cpu_per_event(bench, peer):
    with on_core(LOAD_CORE):
        reader = subprocess.Popen([bench.tools["sse"], str(peer.port), str(STREAMS), str(bench.seconds)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = reader.stdout.readline()
    before = peer.process.cpu()
    last = reader.stdout.readline()
    used = peer.process.cpu() - before
    _, errors = reader.communicate()
    if first.strip() != "started" or not last.startswith("events "):
        raise Failure(f"{peer.name}: {errors}")
    events = int(last.split()[1])
    expected = STREAMS * EVENTS_PER_SECOND * bench.seconds
    # That none is missing the reader has seen; far fewer would mean that the backend or the reader was starved.
    if not 0.7 * expected < events < 1.3 * expected:
        raise Failure(f"{peer.name}: {events} events came, {expected:.0f} were due")
    return used / events * 1e6


# --- idle connections

KEEP_ALIVE_STEPS = (1000, 4500, 9000, 13500, 18000)
WEBSOCKET_STEPS = (500, 2250, 4500, 6750, 9000)  # two descriptors each in the proxy
REQUEST = (f"GET /a/path HTTP/1.1\r\nHost: {p.HOST}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
           "Accept: */*\r\nAccept-Language: en\r\n\r\n").encode()
UPGRADE = (f"GET /chat HTTP/1.1\r\nHost: {p.HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
           "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\r\n").encode()
FRAME = b"\x81\x84\0\0\0\0ping"  # text "ping", masked with zeros; the backend echoes the bytes


def keep_alive_connection(port):
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.sendall(REQUEST)
    answer = s.recv(4096)
    while not answer.endswith(p.BODY):
        more = s.recv(4096)
        if not more:
            raise Failure(f"closed after {answer!r}")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Failure(f"answered {answer!r}")
    return s


def websocket_connection(port):
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = s.recv(4096)
        if not more:
            raise Failure(f"closed after {answer!r}")
        answer += more
    if not answer.startswith(b"HTTP/1.1 101"):
        raise Failure(f"answered {answer!r}")
    s.sendall(FRAME)
    if s.recv(64) != FRAME:
        raise Failure("the WebSocket does not echo")
    return s


def hold(bench, peer, steps, connect):
    """KiB of private memory per connection: over all after the first step, and over each step."""
    held, memory = [], []
    try:
        for step in steps:
            while len(held) < step:
                held.append(connect(peer.port))
            time.sleep(0.5)
            memory.append(peer.process.private_kib())
    finally:
        for s in held:
            s.close()
    slopes = [(memory[i + 1] - memory[i]) / (steps[i + 1] - steps[i]) for i in range(len(steps) - 1)]
    bench.say({peer.name: [round(s, 2) for s in slopes]})
    return (memory[-1] - memory[0]) / (steps[-1] - steps[0]), slopes


def idle(bench):
    rows = []
    for what, steps, connect, limit, websocket in (
            ("after one request, to 18,000", KEEP_ALIVE_STEPS, keep_alive_connection, 0.8, False),
            ("WebSocket, to 9,000", WEBSOCKET_STEPS, websocket_connection, 2.5, True)):
        each, spread = {}, {}
        for kind in p.available(p.GATEWAYS):
            job = p.Job(bench.backend, connections=9100 if websocket else 18500, websocket=websocket)
            with running(bench, f"idle{websocket:d}", job, [kind]) as peers, on_core(LOAD_CORE):
                peer = peers[kind.name]
                p.wait_for_answer(peer)
                slope, slopes = hold(bench, peer, steps, connect)
                each[kind.name] = [slope]
                spread[kind.name] = [max(slopes)]
        rows.append(Row("idle", f"memory per connection, {what}", "KiB", each).limit(limit))
        rows.append(Row("idle", "the same, steepest quarter", "KiB", spread))
    return rows


# --- start-up


def start(bench):
    job = p.Job(bench.backend)
    first, resident, proportional = {}, {}, {}
    for _ in range(max(5, 2 * bench.rounds)):
        for kind in p.available(p.GATEWAYS):
            peer = kind(bench.directory / f"start-{kind.name}", job)
            try:
                peer.prepare()
                peer.launch()
                with on_core(LOAD_CORE):
                    seconds = first_answer(peer)
                first.setdefault(kind.name, []).append(seconds * 1000)
                time.sleep(0.3)
                resident.setdefault(kind.name, []).append(peer.process.resident_kib() / 1024)
                proportional.setdefault(kind.name, []).append(peer.process.proportional_kib() / 1024)
            finally:
                peer.stop()
    bench.say({name: [round(v, 1) for v in values] for name, values in first.items()})
    return [Row("start", "exec to first answer", "ms", first).limit(30),
            Row("start", "resident memory at rest, one worker", "MiB", resident).limit(14),
            Row("start", "the same, shared pages divided (PSS)", "MiB", proportional)]


def first_answer(peer, host=p.HOST, path="/"):
    """Seconds from exec to the end of the first right answer; connects in a tight loop."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    end = peer.process.started + 120
    while time.perf_counter() < end:
        s = socket.socket()
        s.settimeout(60)
        try:
            s.connect(("127.0.0.1", peer.port))
            s.sendall(request)
            answer = s.recv(4096)
            if answer.startswith(b"HTTP/1.1 200"):
                return time.perf_counter() - peer.process.started
        except OSError:
            pass
        finally:
            s.close()
        if not peer.process.running():
            break
    raise Failure(f"{peer.name} gave no answer: {peer.process.errors()}")


# --- latency

RATE = 3000
CONNECTIONS = 50


def latency(bench):
    job = p.Job(bench.backend)
    figures = {"p50": {}, "p99": {}, "p999": {}}
    with running(bench, "latency", job, (p.Floor, *WITHOUT_FLOOR)) as peers:
        for peer in peers.values():
            p.wait_for_answer(peer)
        names = list(peers)
        for _ in range(2 * bench.rounds):
            for name in names:
                text = run_load([bench.tools["rate"], peers[name].port, CONNECTIONS, RATE, bench.seconds])
                result = json.loads(text)
                if result["errors"]:
                    raise Failure(f"{name}: {text}")
                for key, values in figures.items():
                    values.setdefault(name, []).append(result[key])
            names.append(names.pop(0))
    for key, values in figures.items():
        bench.say({key: {name: [round(v) for v in list_] for name, list_ in values.items()}})
    what = f"{RATE:,} requests/s on {CONNECTIONS} connections"
    return [Row("latency", f"p50 at {what}", "µs", figures["p50"]), Row("latency", "p99", "µs", figures["p99"]),
            Row("latency", "p99.9", "µs", figures["p999"]).at_most(1, "haproxy")]
