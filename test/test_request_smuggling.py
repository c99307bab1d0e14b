"""Raw requests that two HTTP implementations could read differently (RFC 9112). Each is sent byte for byte. A refused one
must be answered 400 (or the more precise status given), the connection closed, and nothing of it may reach the backend; an
accepted one must reach the backend as exactly one request, without what must not be forwarded."""

import pytest

from harness import bridge, documents, ingress, Backend, Gateway

GET = "GET / HTTP/1.1\r\nHost: a\r\n"
POST = "POST / HTTP/1.1\r\nHost: a\r\n"
CL_TE = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"


def refused():
    yield "two hosts", GET + "Host: b\r\n\r\n"
    yield "two equal hosts", GET + "Host: a\r\n\r\n"
    yield "no host", "GET / HTTP/1.1\r\n\r\n"
    for name, host in [("space", "a b"), ("comma", "a,b"), ("slash", "a/b"), ("at", "u@a"), ("question", "a?b"), ("hash", "a#b"),
                       ("port letters", "a:8x"), ("long port", "a:123456"), ("two colons", "a:1:2"), ("quote", 'a"b'),
                       ("backslash", "a\\b"), ("open bracket", "[::1"), ("close bracket", "a]"), ("text behind a bracket", "[::1]x"), ("angle", "a<b"), ("non-ascii", "a\xffb"), ("del", "a\x7fb")]:
        yield f"host with {name}", f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"

    yield "content-length and transfer-encoding", POST + CL_TE
    yield "transfer-encoding and content-length", POST + "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG"
    yield "content-length 0 and chunked", POST + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for i, value in enumerate(["xchunked", "chunked, identity", "identity, chunked", "gzip, chunked", "chunked, chunked",
                               "identity", "gzip", "chunked;q=1", '"chunked"', "chunked,", ",chunked", "x", "", "chunked\x0b",
                               "\x0bchunked", "chunked\t", "\tchunked", "chunk\ted", "chun ked", "'chunked'", "chunked\x00", "compress", "deflate"]):
        yield f"transfer-encoding value {i} {value!r}", POST + f"Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n"
    yield "two transfer-encodings", POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "transfer-encoding identity then chunked", POST + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "transfer-encoding chunked then x", POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"
    yield "transfer-encoding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "space before transfer-encoding's colon", POST + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
    yield "tab before transfer-encoding's colon", POST + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"
    yield "folded transfer-encoding", POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"
    yield "folded transfer-encoding by tab", POST + "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"
    yield "leading space in transfer-encoding's line", POST + " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "carriage return before transfer-encoding", POST + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "line feed before transfer-encoding", POST + "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "transfer-encoding hidden behind NUL", POST + "Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n"

    for i, value in enumerate(["+5", "-5", "-0", " 5 5", "5 5", "5,5", "5, 5", "5,6", "0x5", "5.0", "5e0", "five", "", "5a", "a5",
                               "٥", "99999999999999999999", "18446744073709551616", "18446744073709551621",
                               "9223372036854775808", "1_0", "5;", "\x0b5", "5\x0b", "0 5", "5\x00", "\"5\""]):
        yield f"content-length value {i} {value!r}", POST + f"Content-Length: {value}\r\n\r\nhello"
    yield "two content-lengths", POST + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
    yield "two equal content-lengths", POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"
    yield "space before content-length's colon", POST + "Content-Length : 5\r\n\r\nhello"
    yield "folded content-length", POST + "Content-Length:\r\n 5\r\n\r\nhello"

    yield "bare line feeds", "GET / HTTP/1.1\nHost: a\n\n"
    yield "bare line feed after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"
    yield "bare line feed after a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"
    yield "bare line feed as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n"
    yield "bare carriage return in a field", GET + "X: a\rb\r\n\r\n"
    yield "carriage return twice", GET + "X: a\r\r\n\r\n"
    yield "bare carriage return in the request line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "obs-fold", GET + "X: a\r\n b\r\n\r\n"
    yield "obs-fold by tab", GET + "X: a\r\n\tb\r\n\r\n"
    yield "obs-fold of the first field", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"
    yield "space before a colon", GET + "X : a\r\n\r\n"
    yield "tab before a colon", GET + "X\t: a\r\n\r\n"
    yield "no colon", GET + "X\r\n\r\n"
    yield "empty name", GET + ": a\r\n\r\n"
    yield "space in a name", GET + "X Y: a\r\n\r\n"
    for char in "()<>@,;\\\"/[]?={}\x00\x01\x7f\xe9":
        yield f"name with {char!r}", GET + f"X{char}Y: a\r\n\r\n"
    for char in "\x00\x01\x08\x0b\x0c\x1b\x1f\x7f":
        yield f"value with {char!r}", GET + f"X: a{char}b\r\n\r\n"

    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/1.10", "HTTP/2.0", "HTTP/3.0", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/11", "http/1.1",
                    "HTP/1.1", "HTTP/1.1 ", "HTTP/1.1x", "HTTP/ 1.1", "HTTP /1.1", "HTTP/01.1", "HTTP/1.01", "HTTP/-1.1", "HTTPS/1.1"]:
        yield f"version {version!r}", f"GET / {version}\r\nHost: a\r\n\r\n"
    yield "HTTP/0.9 request", "GET /\r\n\r\n"
    yield "no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "tab as separator", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"
    yield "space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "leading space", " GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "control byte in the target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "DEL in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "fragment in the target", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "empty authority in the target", "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "user in the target's authority", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "unknown scheme in the target", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "CONNECT without port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "CONNECT with path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "method with a control byte", "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "method with a colon", "GET: / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "empty method", " / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "empty lines before the request", "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "TLS on the plaintext port", "\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03"


# Chunked bodies: the head is good, so the backend may have seen it; but the request must never be completed.
def refused_bodies():
    head = POST + "Transfer-Encoding: chunked\r\n\r\n"
    for i, body in enumerate([
            "g\r\n", "5 \r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\r\nhello0\r\n\r\n",
            "fffffffffffffffff\r\nhello", "10000000000000000\r\nhello", "ffffffffffffffff1\r\nx", "0000000000000000005\r\nhello\r\n0\r\n\r\n",
            "5;\x00\r\nhello\r\n0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "5;" + "a" * 5000 + "\r\nhello\r\n0\r\n\r\n",
            "5,6\r\nhello\r\n0\r\n\r\n", "5\t\r\nhello\r\n0\r\n\r\n", "5\x0b\r\nhello\r\n0\r\n\r\n",
            "0\r\nX\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\nX: a\x00\r\n\r\n",
            "0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: b\r\n\r\n", "0\n\n", "0\r\n\n"]):
        yield f"chunked body {i} {body[:24]!r}", head + body


def accepted():
    yield "plain", GET + "\r\n", "GET", "/", b""
    yield "lower-case field names", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "/", b""
    yield "no space after colons", "GET / HTTP/1.1\r\nHost:a\r\nX:b\r\n\r\n", "GET", "/", b""
    yield "spaces around values", "GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", "GET", "/", b""
    yield "empty value", GET + "X:\r\n\r\n", "GET", "/", b""
    yield "one empty line first", "\r\n" + GET + "\r\n", "GET", "/", b""
    yield "host with port", "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", "GET", "/", b""
    yield "IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/", b""
    yield "absolute form", "GET http://a/x?y HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "/x?y", b""
    yield "absolute form without path", "GET http://a HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "/", b""
    yield "asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", b""
    yield "unknown method", "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "BREW", "/pot", b""
    yield "content-length", POST + "Content-Length: 5\r\n\r\nhello", "POST", "/", b"hello"
    yield "leading zeros", POST + "Content-Length: 005\r\n\r\nhello", "POST", "/", b"hello"
    yield "chunked", POST + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST", "/", b"hello"
    yield "CHUNKED", POST + "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST", "/", b"hello"
    yield "chunk extension", POST + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n", "POST", "/", b"hello"
    yield "upper-case hex", POST + "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", "POST", "/", b"0123456789"
    yield "high bytes in a value", GET + "X: \xc3\xa9\r\n\r\n", "GET", "/", b""
    yield "high bytes in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/\xc3\xa9", b""
    yield "GET with a body", GET + "Content-Length: 3\r\n\r\nabc", "GET", "/", b"abc"
    yield "dot segments", "GET /a/./b/../c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/a/c", b""
    yield "encoded dot segments", "GET /a/%2e%2E/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/c", b""
    yield "double slashes", "GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "//a//b", b""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with Backend() as backend:
        gateway = Gateway(tmp_path_factory.mktemp("smuggling") / "conf")
        gateway.write("all.yaml", documents(bridge(be=backend.address), ingress("all", "be.static:80")))
        gateway.start()
        yield gateway, backend
        gateway.stop()


def encode(text):
    return text.encode("utf-8" if any(ord(c) > 255 for c in text) else "latin-1")


REFUSED = list(refused())
REFUSED_BODIES = list(refused_bodies())
ACCEPTED = list(accepted())


def test_the_corpus_is_large():
    assert len(REFUSED) + len(REFUSED_BODIES) + len(ACCEPTED) >= 158


@pytest.mark.parametrize("raw", [raw for _, raw in REFUSED], ids=[name for name, _ in REFUSED])
def test_refused(stage, raw):
    gateway, backend = stage
    before = len(backend.requests)
    with gateway.connect() as client:
        client.send(encode(raw))
        response = client.response()
        assert response.status == 400
        assert response.header("connection") == "close"
        assert client.closed()
    assert len(backend.requests) == before


@pytest.mark.parametrize("raw", [raw for _, raw in REFUSED_BODIES], ids=[name for name, _ in REFUSED_BODIES])
def test_refused_body(stage, raw):
    gateway, backend = stage
    before = len(backend.requests)
    with gateway.connect() as client:
        client.send(encode(raw))
        response = client.response()
        assert response.status == 400
        assert client.closed()
    assert len(backend.requests) == before  # the backend records complete requests only


@pytest.mark.parametrize("raw,method,path,body", [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(stage, raw, method, path, body):
    gateway, backend = stage
    before = len(backend.requests)
    with gateway.connect() as client:
        client.send(encode(raw))
        assert client.response().status == 200
        # The connection is in step: another request works.
        client.request(path="/next")
        assert client.response().status == 200
    seen = backend.requests[before:]
    assert [(r.method, r.path) for r in seen] == [(method, path), ("GET", "/next")]
    assert seen[0].body == body
    framing = len(seen[0].all("content-length")) + len(seen[0].all("transfer-encoding"))
    assert framing == (1 if body else 0) and len(seen[0].all("host")) == 1


def test_absolute_form_replaces_host(stage):
    gateway, backend = stage
    with gateway.connect() as client:
        client.send(b"GET http://first/ HTTP/1.1\r\nHost: second\r\n\r\n")
        assert client.response().status == 200
    assert backend.requests[-1].all("host") == ["first"]


def test_too_large_heads(stage):
    gateway, _ = stage
    with gateway.connect() as client:
        client.send(GET.encode() + b"X: " + b"a" * 70000 + b"\r\n\r\n")
        assert client.response().status == 431 and client.closed()
    with gateway.connect() as client:
        client.send(GET.encode() + b"".join(b"X-%d: a\r\n" % i for i in range(150)) + b"\r\n")
        assert client.response().status == 431 and client.closed()


def test_a_refused_request_stops_the_pipeline(stage):
    gateway, backend = stage
    before = len(backend.requests)
    with gateway.connect() as client:
        client.send(encode(POST + CL_TE.replace("G", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")))
        assert client.response().status == 400
        assert client.closed()
    assert len(backend.requests) == before


def test_head_in_single_bytes(stage):
    gateway, backend = stage
    with gateway.connect() as client:
        for byte in b"GET /drip HTTP/1.1\r\nHost: a\r\nX-Long: " + b"y" * 200 + b"\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().status == 200
    assert backend.requests[-1].path == "/drip" and backend.requests[-1].header("x-long") == "y" * 200
