import pytest

from harness import Backend, Gateway, bridge, documents, ingress
from peers import Authority, H2Backend, H2Client, tls_secret


@pytest.fixture
def start_gateway(tmp_path):
    """Starts gateways: start_gateway(manifests, *flags) with manifests a text or {file: text}."""
    gateways = []

    def start(manifests, *flags, workers=1):
        gateway = Gateway(tmp_path / f"conf{len(gateways)}", *flags, workers=workers)
        for name, text in ({"all.yaml": manifests} if isinstance(manifests, str) else manifests).items():
            gateway.write(name, text)
        gateways.append(gateway)
        return gateway.start()

    yield start
    for gateway in gateways:
        gateway.stop()


@pytest.fixture
def start_backend():
    backends = []

    def start(*args, **kwargs):
        backends.append(Backend(*args, **kwargs))
        return backends[-1]

    yield start
    for backend in backends:
        backend.stop()


@pytest.fixture
def proxy(start_gateway, start_backend):
    """A gateway in front of one scripted backend: proxy(handler, *flags) → (gateway, backend)."""

    def start(handler=None, *flags, raw=None, annotations=None, **options):
        backend = start_backend(handler, raw=raw)
        manifests = documents(bridge(be=backend.address), ingress("all", "be.static:80", annotations=annotations))
        return start_gateway(manifests, *flags, **options), backend

    return start


@pytest.fixture
def start_h2_backend():
    backends = []

    def start(*args, **kwargs):
        backends.append(H2Backend(*args, **kwargs))
        return backends[-1]

    yield start
    for backend in backends:
        backend.stop()
    for backend in backends:
        assert not backend.failures


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture(scope="session")
def certificate(authority):
    """A server's certificate for test.com."""
    return authority.issue("test.com")


@pytest.fixture(params=["clear", "tls"])
def h2_client(request, authority):
    """Connects to a gateway by HTTP/2, in clear and over TLS: h2_client(gateway, **options)."""
    def connect(gateway, **options):
        if request.param == "clear":
            return H2Client(gateway.http_port, **options)
        return H2Client(gateway.https_port, context=authority.client_context(["h2"]), **options)
    return connect


@pytest.fixture
def h2_proxy(start_gateway, start_backend, start_h2_backend, certificate):
    """A gateway with both listeners in front of one backend, HTTP/1 or (with h2=True) HTTP/2:
    h2_proxy(handler, *flags) → (gateway, backend)."""
    def start(handler=None, *flags, h2=False, raw=None, annotations=None, workers=1, more=(), **options):
        backend = start_h2_backend(handler, **options) if h2 else start_backend(handler, raw=raw)
        registry = {"type": "static", "domain": backend.address, "port": 80, "protocol": "http2" if h2 else "http"}
        manifests = documents(bridge(be=registry), tls_secret("cert", certificate),
                              ingress("all", "be.static:80", host="test.com", tls_secret="cert", annotations=annotations),
                              *more)
        return start_gateway(manifests, *flags, workers=workers), backend
    return start
