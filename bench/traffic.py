"""Steady traffic through a gateway whose configuration changes: traffic.py PORT CHANGED_BELOW COUNT [TLS_PORT CA]

Keep-alive GETs, GETs on new connections, POSTs with 64 KiB, one event stream and one WebSocket, until standard input ends;
then one line of JSON: what was sent, and what went wrong. With TLS_PORT also GETs on new TLS connections to steady-a, whose
certificate must be of the authority CA.
  failed     a request without a proper answer (a refused or broken connection, a status other than 200)
  misrouted  answered by another backend than the route says
  broken     the event stream or the WebSocket ended, missed or garbled something
Hosts steady-a and steady-b go to the backends a and b; app-N with N of CHANGED_BELOW or more goes to a and is not changed.
"""

import json
import socket
import ssl
import sys
import threading
import time

port, changed_below, count = (int(a) for a in sys.argv[1:4])
tls_port, authority = (int(sys.argv[4]), sys.argv[5]) if len(sys.argv) > 4 else (0, None)
DOMAIN = "bench.example"
PAUSE = 0.004
over = threading.Event()
lock = threading.Lock()
result = {"requests": 0, "events": 0, "messages": 0, "failed": 0, "misrouted": 0, "broken": 0}
details = []


def add(key, detail=None):
    with lock:
        result[key] += 1
        if detail and len(details) < 20:
            details.append(f"{key}: {detail}")


def connect():
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def exchange(s, data):
    """Sends a request and reads the response: (status, name of the backend, whether the connection stays)."""
    s.sendall(data)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = s.recv(16384)
        if not more:
            raise OSError(f"closed after {len(answer)} bytes of an answer")
        answer += more
    head, body = answer.split(b"\r\n\r\n", 1)
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, value = line.split(b":", 1)
        fields[name.lower()] = value.strip()
    while len(body) < int(fields.get(b"content-length", 0)):
        more = s.recv(16384)
        if not more:
            raise OSError("closed within a body")
        body += more
    return int(head.split(b" ")[1]), fields.get(b"x-backend", b"").decode(), fields.get(b"connection", b"").lower() != b"close"


def routes(seed):
    """(host, backend) without end."""
    n = seed
    while True:
        yield f"steady-a.{DOMAIN}", "a"
        yield f"steady-b.{DOMAIN}", "b"
        n = (n + 7919) % max(1, count - changed_below)
        yield f"app-{changed_below + n}.{DOMAIN}", "a"


def request(host, body=b"", close=False):
    head = f"{'POST' if body else 'GET'} /items HTTP/1.1\r\nHost: {host}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return (head + ("Connection: close\r\n" if close else "") + "\r\n").encode() + body


def requests(seed, body=b"", close=False):
    s = None
    for host, backend in routes(seed):
        if over.is_set():
            break
        try:
            s = s or connect()
            status, by, stays = exchange(s, request(host, body, close))
            add("requests")
            if status != 200:
                add("failed", f"{host}: status {status}")
            elif by != backend:
                add("misrouted", f"{host}: answered by {by!r}")
            if close or not stays:
                s.close()
                s = None
        except OSError as error:
            add("failed", f"{host}: {error!r}")
            if s:
                s.close()
            s = None
        time.sleep(PAUSE)


def tls_requests():
    context = ssl.create_default_context(cafile=authority)
    name = f"steady-a.{DOMAIN}"
    while not over.is_set():
        try:
            with socket.create_connection(("127.0.0.1", tls_port), 10) as plain:
                with context.wrap_socket(plain, server_hostname=name) as s:
                    status, by, _ = exchange(s, request(name, close=True))
            add("requests")
            if status != 200:
                add("failed", f"TLS: status {status}")
            elif by != "a":
                add("misrouted", f"TLS: answered by {by!r}")
        except OSError as error:
            add("failed", f"TLS: {error!r}")
        time.sleep(PAUSE)


def event_stream():
    while not over.is_set():
        expected = 1
        try:
            with connect() as s:
                s.sendall(f"GET /sse HTTP/1.1\r\nHost: steady-a.{DOMAIN}\r\n\r\n".encode())
                file = s.makefile("rb")
                while not over.is_set():
                    line = file.readline()
                    if not line:
                        raise OSError("the event stream ended")
                    if line.startswith(b"id: "):
                        if int(line[4:]) != expected:
                            raise OSError(f"event {int(line[4:])} came, {expected} was due")
                        expected += 1
                        add("events")
        except OSError as error:
            if not over.is_set():
                add("broken", repr(error))


def websocket():
    while not over.is_set():
        try:
            with connect() as s:
                s.sendall(f"GET /chat HTTP/1.1\r\nHost: steady-a.{DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    more = s.recv(4096)
                    if not more:
                        raise OSError(f"the upgrade was answered {answer!r}")
                    answer += more
                if b" 101 " not in answer.split(b"\r\n", 1)[0]:
                    raise OSError(f"the upgrade was answered {answer[:80]!r}")
                frame = b"\x81\x84\0\0\0\0ping"
                while not over.is_set():
                    s.sendall(frame)
                    if s.recv(64) != frame:
                        raise OSError("the WebSocket ended or garbled a message")
                    add("messages")
                    time.sleep(PAUSE)
        except OSError as error:
            if not over.is_set():
                add("broken", repr(error))


threads = [threading.Thread(target=target, args=args, daemon=True) for target, args in (
    (requests, (1,)), (requests, (5000,)), (requests, (3, b"", True)), (requests, (11, b"x" * 65536)),
    (event_stream, ()), (websocket, ()), *([(tls_requests, ())] if tls_port else []))]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join(3)
print(json.dumps({**result, "details": details}))
