"""h2spec, the public conformance suite for HTTP/2 servers: all of its cases, in clear and over TLS."""

import subprocess
import xml.etree.ElementTree as xml

import pytest

from harness import ROOT, bridge, documents, ingress, simple_response
from peers import tls_secret

H2SPEC = ROOT / "build/tools/h2spec"  # scripts/setup.sh test
CASES = 145


@pytest.mark.timeout(170)
@pytest.mark.parametrize("transport", ["clear", "tls"])
def test_h2spec(start_gateway, start_backend, authority, tmp_path, transport):
    backend = start_backend(lambda r, c: simple_response(b"a body with some bytes"))
    gateway = start_gateway(documents(
        bridge(be=backend.address), tls_secret("cert", authority.issue("localhost")),
        ingress("all", "be.static:80", host="localhost", tls_secret="cert")))
    report = tmp_path / "report.xml"
    port = ["-p", str(gateway.http_port)] if transport == "clear" else ["-t", "-k", "-p", str(gateway.https_port)]
    run = subprocess.run([H2SPEC, "-h", "localhost", "-o", "2", "-j", str(report), *port], capture_output=True, text=True,
                         timeout=160)
    cases = list(xml.parse(report).getroot().iter("testcase"))
    bad = [f"{case.get('classname')} {case.get('package')}" for case in cases
           if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))]
    assert not bad and run.returncode == 0, "\n".join(bad) + run.stdout[-6000:]
    assert len(cases) >= CASES and f"{len(cases)} tests, {len(cases)} passed, 0 skipped, 0 failed" in run.stdout
    assert gateway.get("/", host="localhost").status == 200
