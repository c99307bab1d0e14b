"""TLS to clients and to upstreams: versions, names, tickets, certificates replaced under traffic, client certificates both
ways; PROXY protocol in and out; IPv6 and Unix listeners."""

import contextlib
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from harness import Backend, Connection, bridge, documents, ingress, simple_response, wait_until
from peers import Authority, H2Client, metrics, nothing_left, opaque_secret, tls_secret

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def tls_gateway(start_gateway, start_backend, authority):
    """tls_gateway({host: certificate pair}, *flags) → (gateway, backend); each host has a Secret and an Ingress."""
    def start(hosts, *flags, workers=1, annotations=None, extra=(), handler=None):
        backend = start_backend(handler or (lambda r, c: simple_response((r.header("host") or "").encode())))
        texts = [bridge(be=backend.address), *extra]
        for i, (host, pair) in enumerate(hosts.items()):
            texts.append(tls_secret(f"cert{i}", pair))
            rule = json.loads(ingress(f"i{i}", "be.static:80", host=None if host == "*" else host, tls_secret=f"cert{i}",
                                      annotations=annotations))
            rule["spec"]["tls"] = [{"hosts": [host], "secretName": f"cert{i}"}] if host != "*" else [{"secretName": f"cert{i}"}]
            texts.append(json.dumps(rule) + "\n")
        return start_gateway({"all.yaml": documents(*texts)}, *flags, workers=workers), backend
    return start


def get(gateway, context, sni="test.com", host=None, headers=(), **options):
    with gateway.connect(tls=True, context=context, server_hostname=sni, **options) as client:
        client.request(host=host or sni or "test.com", headers=headers)
        return client.response()


def peer_name(gateway, context, sni):
    with gateway.connect(tls=True, context=context, server_hostname=sni) as client:
        certificate = x509.load_der_x509_certificate(client.socket.getpeercert(True))
        return certificate.subject.rfc4514_string().removeprefix("CN=")


# --- handshakes


@pytest.mark.parametrize("version", [V12, V13])
def test_versions_and_alpn(tls_gateway, authority, certificate, version):
    gateway, _ = tls_gateway({"test.com": certificate})
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2"), (None, None)):
        context = authority.client_context(offered, minimum=version, maximum=version)
        with gateway.connect(tls=True, context=context, server_hostname="test.com") as client:
            assert client.socket.version() == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
            assert client.socket.selected_alpn_protocol() == chosen
    context = authority.client_context(["http/1.1"], minimum=version, maximum=version)
    assert get(gateway, context).status == 200
    found = metrics(gateway)
    assert found['sluice_listener_tls_handshakes_total{listener="https"}'] == 5
    assert gateway.log_lines(1)[0]["requested_server_name"] == "test.com"


def test_nothing_weak_is_accepted(tls_gateway, certificate):
    gateway, _ = tls_gateway({"test.com": certificate})

    def handshake(*options):
        run = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.https_port}", "-servername", "test.com",
                              *options], input=b"", capture_output=True, timeout=20)
        return b"Cipher is (NONE)" not in run.stdout and run.returncode == 0
    assert handshake("-tls1_2") and handshake("-tls1_3")
    for version in ("-tls1", "-tls1_1"):
        assert not handshake(version, "-cipher", "ALL:@SECLEVEL=0"), version
    for cipher in ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "DES-CBC3-SHA",
                   "NULL-SHA256", "aNULL", "DHE-RSA-AES128-GCM-SHA256"):
        assert not handshake("-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0"), cipher
    assert handshake("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert metrics(gateway)['sluice_listener_tls_failures_total{listener="https"}'] >= 4


def test_names(tls_gateway, authority):
    def issue(name):
        return authority.issue(name if name != "*" else "any", subject=name)
    gateway, _ = tls_gateway({name: issue(name) for name in ("a.test.com", "*.test.com", "*.deep.test.com")})
    context = authority.client_context(check=False)
    for sni, served in (("a.test.com", "a.test.com"), ("b.test.com", "*.test.com"), ("x.deep.test.com", "*.deep.test.com"),
                        ("A.TEST.COM", "a.test.com")):
        assert peer_name(gateway, context, sni) == served
    for unknown in ("other.com", "test.com", None):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            peer_name(gateway, context, unknown)
    gateway.stop()
    gateway, _ = tls_gateway({"a.test.com": issue("a.test.com"), "*": issue("*")})
    for sni, served in (("a.test.com", "a.test.com"), ("other.com", "*"), (None, "*")):
        assert peer_name(gateway, context, sni) == served


def test_routing_goes_by_host(tls_gateway, authority):
    """SNI chooses the certificate, Host the route."""
    gateway, _ = tls_gateway({"a.com": authority.issue("a.com"), "b.com": authority.issue("b.com")})
    assert get(gateway, authority.client_context(), "a.com", host="b.com").body == b"b.com"
    assert get(gateway, authority.client_context(), "a.com", host="c.com").status == 404


def test_broken_handshakes_leave_nothing(tls_gateway, authority, certificate):
    gateway, _ = tls_gateway({"test.com": certificate})
    with nothing_left(gateway):
        for data in (b"", b"GET / HTTP/1.1\r\nHost: test.com\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"\0" * 512, b"\x16\x03\x01"):
            with Connection("127.0.0.1", gateway.https_port) as client:
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
                assert client.closed()
    assert get(gateway, authority.client_context()).status == 200


def test_truncation_is_told_from_the_end(tls_gateway, authority, certificate):
    """A response delimited by the connection's end ends with close_notify."""
    def handler(request, connection):
        connection.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        connection.socket.close()
    gateway, _ = tls_gateway({"test.com": certificate}, handler=handler)
    context = authority.client_context()
    with gateway.connect(tls=True, context=context, server_hostname="test.com") as client:
        client.send(b"GET / HTTP/1.0\r\nHost: test.com\r\n\r\n")
        assert client.response().body == b"all of it"  # Python raises SSLEOFError without close_notify


# --- session tickets


def resumes(gateway, context, session, sni="test.com"):
    with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname=sni, session=session) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: test.com\r\nConnection: close\r\n\r\n")
            data = b""
            while more := client.recv(65536):
                data += more
            assert data.startswith(b"HTTP/1.1 200"), data
            return client.session_reused, client.session


@pytest.mark.parametrize("version", [V12, V13])
def test_tickets(tls_gateway, authority, certificate, version):
    """They resume on every worker, and after a change of the configuration."""
    gateway, _ = tls_gateway({"test.com": certificate}, workers=2)
    context = authority.client_context(minimum=version, maximum=version)
    reused, session = resumes(gateway, context, None)
    assert not reused
    for _ in range(20):  # SO_REUSEPORT spreads them over both workers
        reused, session = resumes(gateway, context, session)
        assert reused
    gateway.apply("more.yaml", ingress("more", "be.static:80", host="more.com"))
    assert resumes(gateway, context, session)[0]


# --- certificates replaced


def serial(gateway, context):
    with gateway.connect(tls=True, context=context, server_hostname="test.com") as client:
        return x509.load_der_x509_certificate(client.socket.getpeercert(True)).serial_number


def serial_of(pair):
    return x509.load_pem_x509_certificate(pair[0].encode()).serial_number


def test_certificate_is_replaced_under_traffic(start_gateway, start_backend, authority):
    backend = start_backend()
    first = authority.issue("test.com")
    gateway = start_gateway({"cert.yaml": tls_secret("cert", first), "all.yaml": documents(
        bridge(be=backend.address), ingress("all", "be.static:80", host="test.com", tls_secret="cert"))}, workers=2)
    context = authority.client_context()
    stop = threading.Event()
    failures, counts = [], {"kept": 0, "new": 0}

    def kept():
        with gateway.connect(tls=True, context=context, server_hostname="test.com") as client:
            while not stop.is_set():
                client.request("POST", body=b"x" * 1000)
                assert client.response().status == 200
                counts["kept"] += 1

    def new():
        while not stop.is_set():
            assert get(gateway, context).status == 200
            counts["new"] += 1

    def run(function):
        try:
            function()
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=run, args=(f,)) for f in (kept, kept, new, new)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        pair = authority.issue("test.com")
        gateway.write("cert.yaml", tls_secret("cert", pair))
        wait_until(lambda: serial(gateway, context) == serial_of(pair), 5, "the new certificate")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and min(counts.values()) > 5, (failures, counts)


@pytest.mark.parametrize("breakage", ["not PEM", "key of another", "no key"])
def test_broken_certificate_is_not_taken(start_gateway, start_backend, authority, breakage):
    backend = start_backend()
    good, other = authority.issue("test.com"), authority.issue("test.com")
    gateway = start_gateway({"cert.yaml": tls_secret("cert", good), "all.yaml": documents(
        bridge(be=backend.address), ingress("all", "be.static:80", host="test.com", tls_secret="cert"))})
    context = authority.client_context()
    assert metrics(gateway)["sluice_config_errors"] == 0
    bad = {"not PEM": ("rubbish", "rubbish"), "key of another": (other[0], good[1]), "no key": (good[0], "")}[breakage]
    gateway.write("cert.yaml", tls_secret("cert", bad))
    wait_until(lambda: metrics(gateway)["sluice_config_errors"] > 0, 5, "a report")
    assert serial(gateway, context) == serial_of(good)
    assert get(gateway, context).status == 200
    told = [o for o in json.loads(gateway.admin("/objects")) if "cert" in o["object"] and o["messages"]]
    assert told and "cert" in gateway.errors()
    for text in (gateway.errors(), json.dumps(told)):
        assert good[1].splitlines()[1] not in text, "a key in a message"
    gateway.write("cert.yaml", tls_secret("cert", other))
    wait_until(lambda: serial(gateway, context) == serial_of(other), 5, "the mended certificate")
    assert metrics(gateway)["sluice_config_errors"] == 0


# --- client certificates


@pytest.fixture
def mutual(tls_gateway, authority):
    """secure.com wants client certificates, open.com does not."""
    clients = Authority("Client CA")
    gateway, backend = tls_gateway({"open.com": authority.issue("open.com")}, extra=[
        tls_secret("mine", authority.issue("secure.com"), ca=clients.pem),
        ingress("secure", "be.static:80", host="secure.com", tls_secret="mine",
                annotations={"nginx.ingress.kubernetes.io/auth-tls-secret": "higress-system/mine"})])
    return gateway, backend, clients


@pytest.mark.parametrize("version", [V12, V13])
def test_client_certificate_is_required(mutual, authority, version):
    gateway, backend, clients = mutual
    good = clients.issue("alice", subject="alice", uris=["spiffe://test/alice"], client=True)

    def context(pair):
        return authority.client_context(["http/1.1"], pair, minimum=version, maximum=version)
    assert get(gateway, context(good), "secure.com").status == 200
    strangers = Authority("Client CA")
    for pair in (None, strangers.issue("mallory", client=True)):
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            get(gateway, context(pair), "secure.com")
    assert get(gateway, context(None), "open.com").status == 200
    assert len(backend.requests) == 2


def test_forwarded_client_certificate(mutual, authority):
    gateway, backend, clients = mutual
    pair = clients.issue("alice.test", subject="alice", uris=["spiffe://test/alice"], client=True)
    context = authority.client_context(["http/1.1"], pair)
    response = get(gateway, context, "secure.com", headers={"X-Forwarded-Client-Cert": "Hash=forged"})
    assert response.status == 200
    values = backend.requests[0].all("x-forwarded-client-cert")
    assert len(values) == 1
    fields = dict(part.split("=", 1) for part in values[0].split(";"))
    der = x509.load_pem_x509_certificate(pair[0].encode()).public_bytes(serialization.Encoding.DER)
    assert fields["Hash"] == hashlib.sha256(der).hexdigest()
    assert urllib.parse.unquote(fields["Cert"].strip('"')).strip() == pair[0].strip()
    assert fields["Subject"] == '"CN=alice"'
    assert fields["URI"] == "spiffe://test/alice" and fields["DNS"] == "alice.test"
    # and nobody else may say it
    assert get(gateway, authority.client_context(["http/1.1"]), "open.com",
               headers={"X-Forwarded-Client-Cert": "Hash=forged"}).status == 200
    assert backend.requests[1].all("x-forwarded-client-cert") == []
    assert gateway.get("/", host="open.com", headers={"X-Forwarded-Client-Cert": "Hash=forged"}).status == 200
    assert backend.requests[2].all("x-forwarded-client-cert") == []


def test_forward_client_cert_details(mutual, authority):
    """Each value of forwardClientCertDetails, with a certificate, without, and in the clear."""
    gateway, backend, clients = mutual
    context = authority.client_context(["http/1.1"], clients.issue("alice", client=True))
    plain = authority.client_context(["http/1.1"])
    told = {"X-Forwarded-Client-Cert": "By=told"}
    for word, certified, other in [("SANITIZE", "", ""), ("FORWARD_ONLY", "By=told", ""), ("APPEND_FORWARD", "By=told,Hash=", ""),
                                   ("ALWAYS_FORWARD_ONLY", "By=told", "By=told"), ("SANITIZE_SET", "Hash=", "")]:
        gateway.apply("settings.yaml", json.dumps({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "higress-config", "namespace": "higress-system"},
            "data": {"mesh": json.dumps({"defaultConfig": {"gatewayTopology": {"forwardClientCertDetails": word}}})}}) + "\n")
        assert get(gateway, context, "secure.com", headers=told).status == 200
        assert get(gateway, plain, "open.com", headers=told).status == 200
        assert gateway.get("/", host="open.com", headers=told).status == 200
        seen = [",".join(r.all("x-forwarded-client-cert")) for r in backend.requests[-3:]]
        assert seen[0].startswith(certified) and (seen[0] == certified) == (certified in ("", "By=told")), (word, seen)
        assert seen[1:] == [other, other], (word, seen)


def test_misdirected_request(mutual, authority):
    """A connection for a host without client certificates is not a way to the one with them."""
    gateway, backend, clients = mutual
    context = authority.client_context(["http/1.1"])
    assert get(gateway, context, "open.com", host="secure.com").status == 421
    with H2Client(gateway.https_port, context=authority.client_context(["h2"]), sni="open.com") as client:
        assert client.get(host="secure.com").status == 421
        assert client.get(host="open.com").status == 200  # the connection goes on
    assert [r.header("host") for r in backend.requests] == ["open.com"]
    pair = clients.issue("alice", client=True)
    with H2Client(gateway.https_port, context=authority.client_context(["h2"], pair), sni="secure.com") as client:
        assert client.get(host="secure.com").status == 200
        assert client.get(host="open.com").status == 200
    assert backend.requests[1].header("x-forwarded-client-cert")
    # The plaintext listener is not concerned.
    assert gateway.get("/", host="secure.com").status == 200


def test_mutual_sessions_do_not_resume_elsewhere(mutual, authority):
    """A ticket of open.com does not open secure.com."""
    gateway, _, clients = mutual
    context = authority.client_context(["http/1.1"], maximum=V12)
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", gateway.https_port)) as raw:
        with context.wrap_socket(raw, server_hostname="open.com") as client:
            session = client.session
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with socket.create_connection(("127.0.0.1", gateway.https_port)) as raw:
            with context.wrap_socket(raw, server_hostname="secure.com", session=session) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: secure.com\r\n\r\n")
                if not client.recv(1000):
                    raise ConnectionError


@pytest.mark.parametrize("version", [V12, V13])
def test_no_resumption_when_the_client_ca_has_changed(start_gateway, start_backend, authority, version):
    """A ticket proves what the old CA vouched for."""
    backend = start_backend()
    pair, old, new = authority.issue("secure.com"), Authority("Old CA"), Authority("New CA")

    def manifests(clients):
        return documents(bridge(be=backend.address), tls_secret("mine", pair, ca=clients.pem),
                         ingress("secure", "be.static:80", host="secure.com", tls_secret="mine",
                                 annotations={"nginx.ingress.kubernetes.io/auth-tls-secret": "higress-system/mine"}))
    gateway = start_gateway(manifests(old))
    context = authority.client_context(["http/1.1"], old.issue("alice", client=True), minimum=version, maximum=version)

    def ask(session):
        with socket.create_connection(("127.0.0.1", gateway.https_port), timeout=10) as raw:
            with context.wrap_socket(raw, server_hostname="secure.com", session=session) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: secure.com\r\nConnection: close\r\n\r\n")
                data = client.recv(65536)
                if not data.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(data)
                return client.session_reused, client.session
    reused, session = ask(None)
    assert ask(session)[0]
    gateway.apply("all.yaml", manifests(new))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(session)
    gateway.apply("all.yaml", manifests(old))
    assert ask(session)[0]


def test_certificates_that_are_not_valid_now(tls_gateway, authority):
    """They are shown, and their owner is told."""
    gateway, _ = tls_gateway({"old.com": authority.issue("old.com", days=(-9, -2)), "young.com": authority.issue("young.com", days=(2, 9)),
                              "good.com": authority.issue("good.com")})
    unverified = authority.client_context(check=False)
    for host in ("old.com", "young.com"):
        assert get(gateway, unverified, host).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            get(gateway, authority.client_context(), host)
    assert get(gateway, authority.client_context(), "good.com").status == 200
    warnings = [line for line in gateway.errors().splitlines() if "the certificate" in line]
    assert len(warnings) == 2, warnings
    assert any("cert0: the certificate expired on 20" in line and "old.com" in line for line in warnings)
    assert any("cert1: the certificate is not valid before 20" in line and "young.com" in line for line in warnings)


# --- TLS to upstreams


@contextlib.contextmanager
def tls_backend(context, names=None, handler=None):
    def remember(sock, name, _):
        if names is not None:
            names.append(name)
    context.sni_callback = remember
    with Backend(handler, context=context) as backend:
        yield backend


def test_upstream_name(start_gateway, authority):
    """SNI: what the registry says, else its single domain, else the request's host."""
    names = []
    with tls_backend(authority.server_context("x"), names) as backend:
        gateway = start_gateway(documents(
            bridge(fixed={"type": "static", "domain": backend.address, "port": 80, "protocol": "https", "sni": "inner.example"},
                   open={"type": "static", "domain": backend.address, "port": 80, "protocol": "https"},
                   named={"type": "dns", "domain": "inner.localhost", "port": backend.port, "protocol": "https"}),
            ingress("fixed", "fixed.static:80", path="/fixed"), ingress("open", "open.static:80", path="/open"),
            ingress("named", f"named.dns:{backend.port}", path="/named")))
        wait_until(lambda: gateway.get("/named").status == 200, what="DNS")
        assert set(names) == {"inner.localhost"}
        names.clear()
        assert gateway.get("/fixed").status == 200 and names == ["inner.example"]
        names.clear()
        assert gateway.get("/open", host="asked.example:8080").status == 200
        assert names == ["asked.example"]
        # A connection made for one host never carries another's requests.
        names.clear()
        for host in ("a.example", "b.example", "a.example", "b.example"):
            assert gateway.get("/open", host=host).status == 200
        assert names == ["a.example", "b.example"]


@pytest.mark.parametrize("case", ["good", "other name", "other authority", "expired name", "not asked"])
def test_upstream_verification(start_gateway, authority, case):
    issuer = Authority("Stranger") if case in ("other authority", "not asked") else authority
    name = "wrong.example" if case == "other name" else "inner.example"
    with tls_backend(issuer.server_context(name)) as backend:
        annotations = {} if case == "not asked" else {
            "nginx.ingress.kubernetes.io/proxy-ssl-secret": "higress-system/anchors",
            "nginx.ingress.kubernetes.io/proxy-ssl-verify": "on", "nginx.ingress.kubernetes.io/proxy-ssl-server-name": "on",
            "nginx.ingress.kubernetes.io/proxy-ssl-name": "inner.example" if case != "expired name" else "later.example"}
        gateway = start_gateway(documents(
            bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "https"}),
            opaque_secret("anchors", ca_crt=authority.pem), ingress("all", "be.static:80", annotations=annotations)))
        response = gateway.get("/")
    if case in ("good", "not asked"):
        assert response.status == 200
    else:
        assert response.status == 503
        line = gateway.log_lines(1)[0]
        assert line["response_flags"].startswith("UF") and "TLS" in line["upstream_transport_failure_reason"]
        assert not backend.requests


def test_client_certificate_to_the_upstream(start_gateway, authority):
    ours = Authority("Gateways")
    context = authority.server_context("inner.example", client_authority=ours)
    seen = []
    with tls_backend(context, handler=lambda r, c: seen.append(c.socket.getpeercert()) or simple_response()) as backend:
        pair = ours.issue("gateway", client=True)
        with_certificate = {"nginx.ingress.kubernetes.io/proxy-ssl-secret": "higress-system/mine"}
        gateway = start_gateway(documents(
            bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "https", "sni": "inner.example"},
                   bare={"type": "static", "domain": backend.address, "port": 80, "protocol": "https"}),
            tls_secret("mine", pair, ca=authority.pem), ingress("all", "be.static:80", annotations=with_certificate),
            ingress("bare", "bare.static:80", path="/bare")))
        assert gateway.get("/").status == 200
        assert dict(seen[0]["subject"][0])["commonName"] == "gateway"
        assert gateway.get("/bare").status == 503


def test_upstream_sessions_are_reused(start_gateway, authority):
    reused = []

    def handler(request, connection):
        reused.append(connection.socket.session_reused)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        raise EOFError
    with tls_backend(authority.server_context("x"), handler=handler) as backend:
        gateway = start_gateway(documents(
            bridge(be={"type": "static", "domain": backend.address, "port": 80, "protocol": "https", "sni": "x"}),
            ingress("all", "be.static:80")))
        for _ in range(5):
            assert gateway.get("/").status == 200
    assert reused[0] is False and all(reused[1:]), reused


# --- PROXY protocol


def v1(source="203.0.113.7", destination="198.51.100.1", family="TCP4"):
    return f"PROXY {family} {source} {destination} 5555 443\r\n".encode()


def v2(source="203.0.113.7", destination="198.51.100.1", command=1, extra=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack(">HH", 5555, 443) + extra
    return (b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, 0x21 if ":" in source else 0x11]) +
            struct.pack(">H", len(addresses)) + addresses)


@pytest.mark.parametrize("listener", ["http", "https"])
def test_proxy_protocol_in(tls_gateway, authority, certificate, listener):
    gateway, backend = tls_gateway({"test.com": certificate}, "--proxy-protocol")

    def ask(prefix, pieces=1):
        raw = socket.create_connection(("127.0.0.1", gateway.http_port if listener == "http" else gateway.https_port), timeout=10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pieces == 1:
            raw.sendall(prefix)
        else:
            for i in range(len(prefix)):
                raw.sendall(prefix[i:i + 1])
        if listener == "https":
            raw = authority.client_context(["http/1.1"]).wrap_socket(raw, server_hostname="test.com")
        client = Connection.__new__(Connection)
        client.socket, client.buffer = raw, b""
        with client:
            client.request()
            assert client.response().status == 200
        return backend.requests[-1].header("x-forwarded-for")
    assert ask(v1()) == "203.0.113.7"
    assert ask(v1("2001:db8::7", "2001:db8::1", "TCP6")) == "2001:db8::7"
    assert ask(b"PROXY UNKNOWN\r\n") == "127.0.0.1"
    assert ask(v2()) == "203.0.113.7"
    assert ask(v2("2001:db8::7", "2001:db8::1")) == "2001:db8::7"
    assert ask(v2(extra=b"\x04\0\x03abc")) == "203.0.113.7"
    assert ask(v2(command=0)) == "127.0.0.1"  # LOCAL: a health check of the balancer
    assert ask(b"") == "127.0.0.1"
    assert ask(v1(), pieces=2) == "203.0.113.7" and ask(v2(), pieces=2) == "203.0.113.7"
    assert [r.header("x-envoy-external-address") for r in backend.requests][:2] == ["203.0.113.7", "2001:db8::7"]


@pytest.mark.parametrize("header", [b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 a b c d\r\n", b"PROXY " + b"x" * 200,
                                    b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + b"\0" * 12])
def test_broken_proxy_header_closes(tls_gateway, certificate, header):
    gateway, backend = tls_gateway({"test.com": certificate}, "--proxy-protocol")
    with nothing_left(gateway):
        with gateway.connect() as client:
            client.send(header + b"GET / HTTP/1.1\r\nHost: test.com\r\n\r\n")
            assert client.closed() and b"200" not in client.buffer
    assert not backend.requests


def test_proxy_header_is_no_request_without_the_flag(tls_gateway, certificate):
    gateway, backend = tls_gateway({"test.com": certificate})
    with gateway.connect() as client:
        client.send(v1() + b"GET / HTTP/1.1\r\nHost: test.com\r\n\r\n")
        assert client.closed() and b" 200 " not in client.buffer
    assert not backend.requests


@pytest.mark.parametrize("version", [1, 2])
def test_proxy_protocol_out(start_gateway, start_backend, version):
    """Each client's requests carry that client's address, whatever connects when."""
    lock = threading.Lock()
    seen = []

    def raw(connection):
        if version == 1:
            line = connection.read_until(b"\r\n").decode().split(" ")
            source = (line[2], int(line[4]))
        else:
            head = connection.read_exactly(16)
            assert head[:13] == b"\r\n\r\n\0\r\nQUIT\n\x21" and head[13] == 0x11
            data = connection.read_exactly(struct.unpack(">H", head[14:16])[0])
            source = (socket.inet_ntop(socket.AF_INET, data[:4]), struct.unpack(">H", data[8:10])[0])
        while True:
            request = connection.read_until(b"\r\n\r\n").decode()
            with lock:
                seen.append((source, request.split(" ")[1]))
            connection.send(simple_response())
    backend = start_backend(raw=raw)
    gateway = start_gateway(documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations={
        "sluice.io/upstream": json.dumps({"send_proxy_protocol": version})})))
    own = {}
    with nothing_left(gateway):
        clients = [gateway.connect() for _ in range(20)]
        for round_ in range(3):
            for client in clients:
                own[f"/{round_}/{client.socket.getsockname()[1]}"] = client.socket.getsockname()
                client.request(path=f"/{round_}/{client.socket.getsockname()[1]}")
            for client in clients:
                assert client.response().status == 200
        for client in clients:
            client.socket.close()
    assert len(seen) == 60
    for source, path in seen:
        assert own[path] == source


# --- listeners


def test_ipv6_and_unix_listeners(tls_gateway, authority, certificate, tmp_path):
    path = str(tmp_path / "sluice.sock")
    gateway, backend = tls_gateway({"test.com": certificate}, "--bind", "127.0.0.1,::1", "--unix-socket", path)
    with Connection("::1", gateway.http_port) as client:
        client.request()
        assert client.response().status == 200
    assert backend.requests[-1].header("x-forwarded-for") == "::1"
    with Connection("::1", gateway.https_port, context=authority.client_context(), server_hostname="test.com") as client:
        client.request()
        assert client.response().status == 200
    client = Connection.__new__(Connection)
    client.socket, client.buffer = socket.socket(socket.AF_UNIX), b""
    client.socket.connect(path)
    with client:
        client.request()
        assert client.response().status == 200
    assert gateway.get("/").status == 200


def test_slow_reader_gets_all_of_a_closing_response(start_gateway, start_backend, authority):
    """Ciphertext that still waits in the session is part of the response."""
    body = os.urandom(1 << 20) * 8
    backend = start_backend(lambda r, c: simple_response(body))
    gateway = start_gateway(documents(
        bridge(be=backend.address), tls_secret("cert", authority.issue("test.com")),
        ingress("all", "be.static:80", host="test.com", tls_secret="cert")))
    for _ in range(2):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        raw.connect(("127.0.0.1", gateway.https_port))
        with authority.client_context().wrap_socket(raw, server_hostname="test.com") as client:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.1\r\nHost: test.com\r\nConnection: close\r\n\r\n")
            time.sleep(0.5)
            data = bytearray()
            while chunk := client.recv(65536):
                data += chunk
                time.sleep(0.001)
        assert bytes(data).split(b"\r\n\r\n", 1)[1] == body
