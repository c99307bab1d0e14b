"""One TLS connection per request: tls_client.py PORT HOST SECONDS new|resume. Prints one line of JSON.

"resume" presents the newest session ticket each time. OPENSSL_CONF pins version, cipher suite and group (machine.py)."""

import json
import socket
import ssl
import sys
import threading
import time

THREADS = 8
port, host, seconds, resume = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4] == "resume"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
counts = [[0, 0, 0] for _ in range(THREADS)]


def connect(count, session):
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname=host, session=session) as s:
            s.sendall(request)
            data = b""
            while more := s.recv(16384):
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200") or len(body) != 100:
                raise OSError(f"wrong answer {data[:100]!r}")
            count[0] += 1
            count[1] += s.session_reused
            return s.session


def run(count):
    session = None
    while time.monotonic() < end:
        try:
            latest = connect(count, session)
            if resume:
                session = latest
        except OSError as error:
            count[2] += 1
            print(error, file=sys.stderr)


end = time.monotonic() + seconds
threads = [threading.Thread(target=run, args=(count,)) for count in counts]
for t in threads:
    t.start()
for t in threads:
    t.join()
requests, resumed, errors = (sum(values) for values in zip(*counts))
# The first connection of each thread has no ticket yet.
print(json.dumps({"requests": requests, "resumed": resumed + THREADS * resume, "errors": errors}))
