"""Configuration from a directory: live changes under traffic, bad input, check and explain."""

import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time

import pytest

from harness import BINARY, bridge, documents, ingress, simple_response, wait_until


def run(*arguments):
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def two_services(start_backend):
    a = start_backend(lambda r, c: simple_response(b"a"))
    b = start_backend(lambda r, c: simple_response(b"b"))
    return bridge(a=a.address, b=b.address)


def test_editor_rename_dance(start_gateway, start_backend):
    services = two_services(start_backend)
    gateway = start_gateway({"bridge.yaml": services, "route.yaml": ingress("i", "a.static:80")})
    route = gateway.directory / "route.yaml"
    # vim: move the old file away, write the new one under the old name, delete the backup.
    for name in ["b", "a", "b"]:
        route.rename(gateway.directory / "route.yaml~")
        route.write_text(ingress("i", f"{name}.static:80"))
        (gateway.directory / "route.yaml~").unlink()
        wait_until(lambda: gateway.get("/").body == name.encode(), 3, "the change")
    # In place.
    with open(route, "w") as file:
        file.write(ingress("i", "a.static:80"))
    wait_until(lambda: gateway.get("/").body == b"a", 3, "the change")
    # Deleted.
    route.unlink()
    wait_until(lambda: gateway.get("/").status == 404, 3, "the removal")


def test_configmap_mount(start_gateway, start_backend, tmp_path):
    """The way a kubelet updates a mounted ConfigMap: a new directory, and a swapped ..data link."""
    services = two_services(start_backend)
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(number, destination):
        data = mount / f"..2026_{number}"
        data.mkdir()
        (data / "all.yaml").write_text(documents(services, ingress("i", destination)))
        os.symlink(data.name, mount / "..data_tmp")
        os.rename(mount / "..data_tmp", mount / "..data")
        return data
    old = publish(1, "a.static:80")
    os.symlink("..data/all.yaml", mount / "all.yaml")
    gateway = start_gateway("")
    gateway.stop()
    gateway.flags[gateway.flags.index("--config") + 1] = str(mount)
    gateway.start()
    assert gateway.get("/").body == b"a"
    new = publish(2, "b.static:80")
    wait_until(lambda: gateway.get("/").body == b"b", 3, "the swap")
    shutil.rmtree(old)
    publish(3, "a.static:80")
    wait_until(lambda: gateway.get("/").body == b"a", 3, "the second swap")
    shutil.rmtree(new)
    assert gateway.get("/").body == b"a"


def test_bad_file_keeps_the_last_good_version(start_gateway, start_backend):
    services = two_services(start_backend)
    gateway = start_gateway({"bridge.yaml": services, "one.yaml": ingress("one", "a.static:80", host="one.com"),
                             "two.yaml": ingress("two", "b.static:80", host="two.com")})
    for broken in ["{ not yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: one, namespace: higress-system}\n"
                   "spec:\n  rules:\n  - http:\n      paths:\n      - {path: x, pathType: Exakt}\n", "\x00\x01", "- a\n- b\n"]:
        gateway.write("one.yaml", broken)
        wait_until(lambda: "one.yaml" in gateway.errors(), 3, "a report")
        assert gateway.get("/", host="one.com").body == b"a"
        assert gateway.get("/", host="two.com").body == b"b"
    assert re.search(r"one\.yaml:8:\d+: Ingress higress-system/one: spec\.rules\[0\]\.http\.paths\[0\]\.pathType: .*Exakt.*Exact, Prefix",
                     gateway.errors())
    gateway.write("one.yaml", ingress("one", "b.static:80", host="one.com"))
    wait_until(lambda: gateway.get("/", host="one.com").body == b"b", 3, "the repair")


def test_burst_of_files(start_gateway, start_backend):
    services = two_services(start_backend)
    gateway = start_gateway({"bridge.yaml": services})
    for i in range(500):
        (gateway.directory / f"r{i}.yaml").write_text(ingress(f"r{i}", "a.static:80", host=f"h{i}.com"))
    wait_until(lambda: gateway.get("/", host="h499.com").status == 200 and gateway.get("/", host="h0.com").status == 200, 5, "the burst")
    for i in range(500):
        (gateway.directory / f"r{i}.yaml").unlink()
    wait_until(lambda: gateway.get("/", host="h499.com").status == 404, 5, "the removal")


def test_changes_under_traffic_lose_nothing(start_gateway, start_backend):
    """Keep-alive and new connections, POSTs, a stream and a tunnel run while routes change: nothing fails, nothing goes astray."""
    tunnel_up = threading.Event()
    stop = threading.Event()

    def handler(name):
        def handle(request, connection):
            if request.header("upgrade"):
                connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                tunnel_up.set()
                while data := connection.socket.recv(4096):
                    connection.send(data)
                raise EOFError
            if request.path == "/stream":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not stop.wait(0.01):
                    connection.send(b"9\r\ndata: x\n\n\r\n")
                return b"0\r\n\r\n"
            return simple_response(name.encode() + request.body)
        return handle
    a = start_backend(handler("a"))
    b = start_backend(handler("b"))
    services = bridge(a=a.address, b=b.address)
    others = {f"o{i}.yaml": ingress(f"o{i}", "a.static:80", host=f"o{i}.com") for i in range(300)}
    gateway = start_gateway({"bridge.yaml": services, "fixed.yaml": ingress("fixed", "a.static:80", host="fixed.com"),
                             "moving.yaml": ingress("moving", "a.static:80", host="moving.com"), **others}, workers=2)
    failures = []
    counts = [0]

    def keep(work):
        def loop():
            try:
                while not stop.is_set():
                    work()
                    counts[0] += 1
            except Exception as error:  # noqa: BLE001: whatever it is, it is a failure
                failures.append(repr(error))
        thread = threading.Thread(target=loop)
        thread.start()
        return thread

    kept = gateway.connect()

    def keep_alive():
        kept.request(host="fixed.com")
        assert kept.response().body == b"a"

    def new_connection():
        assert gateway.get("/", host="fixed.com").body == b"a"

    def post():
        assert gateway.get("/", host="fixed.com", method="POST", body=b"x" * 5000).body == b"a" + b"x" * 5000

    def moving():
        assert gateway.get("/", host="moving.com").body in (b"a", b"b")

    stream = gateway.connect()
    stream.request(path="/stream", host="fixed.com")
    assert stream.response_head().status == 200
    tunnel = gateway.connect()
    tunnel.request(host="fixed.com", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert tunnel.response().status == 101 and tunnel_up.wait(5)

    def stream_on():
        size = stream.read_until(b"\r\n")
        if size == b"0" and stop.is_set():
            return  # the backend has ended the stream
        assert size == b"9" and stream.read_exactly(11) == b"data: x\n\n\r\n"

    def tunnel_on():
        tunnel.send(b"ping")
        assert tunnel.read_exactly(4) == b"ping"

    threads = [keep(work) for work in (keep_alive, new_connection, post, moving, stream_on, tunnel_on)]
    delays = []
    for i in range(200):
        name = "ab"[(i + 1) % 2]
        started = time.monotonic()
        gateway.write("moving.yaml", ingress("moving", f"{name}.static:80", host="moving.com"))
        while gateway.get("/", host="moving.com").body != name.encode():
            assert time.monotonic() - started < 3
        delays.append(time.monotonic() - started)
        if failures:
            break
    stop.set()
    for thread in threads:
        thread.join(20)
    if failures:
        tunnel.socket.close()
    assert not failures, failures
    for connection in (kept, stream, tunnel):
        connection.socket.close()
    assert counts[0] > 200
    assert statistics.median(delays) < 0.2  # far above what it takes; the benchmark measures it


def test_ten_thousand_routes_load(start_gateway, start_backend):
    services = two_services(start_backend)
    files = {f"{i}.yaml": "\n---\n".join(ingress(f"r{i}-{j}", "a.static:80", host=f"h{i}-{j}.com") for j in range(100)) for i in range(100)}
    gateway = start_gateway({"bridge.yaml": services, **files})
    assert gateway.get("/", host="h99-99.com").status == 200
    assert gateway.get("/", host="h100-0.com").status == 404


def test_check(tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    (good / "a.yaml").write_text(documents(bridge(a="127.0.0.1:1"), ingress("i", "a.static:80")))
    result = run("check", good)
    assert result.returncode == 0 and "2 objects, 0 errors" in result.stdout
    (good / "b.yaml").write_text("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\nspec: {rules: [{http: {paths: [{path: /, pathType: Prefx}]}}]}\n")
    result = run("check", good)
    assert result.returncode == 1 and "b.yaml:4:" in result.stdout and "Prefx" in result.stdout
    assert run("check", tmp_path / "nowhere").returncode == 2


def test_explain(tmp_path, start_gateway):
    manifests = documents(bridge(a="127.0.0.1:1"), ingress("i", "a.static:80", host="x.com", paths=[("/a", "Prefix"), ("/a/b", "Exact")]))
    gateway = start_gateway(manifests)
    result = run("explain", "--config", gateway.directory, "--request", "GET http://x.com/a/./b")
    assert result.returncode == 0 and "/a/b" in result.stdout and "127.0.0.1:1" in result.stdout
    assert run("explain", "--config", gateway.directory, "--request", "GET http://y.com/").returncode == 1
    answer = json.loads(run("explain", "--config", gateway.directory, "-o", "json", "--request", "GET http://x.com/a/c").stdout)
    assert answer
    assert gateway.admin("/explain?request=GET%20http://x.com/a/b") .strip() == run(
        "explain", "--config", gateway.directory, "--request", "GET http://x.com/a/b").stdout.strip()


def test_version_and_help():
    assert run("--version").stdout.startswith("sluice ")
    text = run("serve", "--help").stdout
    for flag in ("--config", "--http-port", "--https-port", "--admin-port", "--bind", "--workers", "--access-log"):
        assert flag in text
    assert run("serve").returncode != 0
    assert run("nonsense").returncode != 0


@pytest.mark.parametrize("flags,message", [
    (["--config", "/nowhere"], "/nowhere"), (["--log-level", "loud"], "loud"), (["--bind", "not-an-address"], "not-an-address"),
    (["--access-log-format", "%NOPE%"], "NOPE"), (["--access-log", "/nowhere/x.log"], "/nowhere/x.log")])
def test_bad_flags_are_explained(tmp_path, flags, message):
    base = [] if "--config" in flags else ["--config", str(tmp_path)]
    result = subprocess.run([str(BINARY), "serve", *base, "--http-port", "0", "--https-port", "0", "--admin-port", "0",
                             "--unix-socket", str(tmp_path / "s"), *flags], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1 and message in result.stderr
