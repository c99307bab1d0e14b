import pytest

from harness import Backend, Gateway, bridge, documents, ingress


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
