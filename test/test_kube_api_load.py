"""The Kubernetes-style API with many objects, many changes, and clients that are slow, greedy or hostile."""

import contextlib
import ctypes
import http.client
import json
import re
import signal
import socket
import ssl
import threading
import time

import pytest
import yaml

from harness import Adopted, documents, wait_until
from test_kubectl import ApiGateway, gateway, kubectl_binary, route  # noqa: F401

COUNT = 10_000


def manifests(value, pad=""):
    return documents(*(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{n}", "namespace": "default"},
                                   "data": {"v": str(value), "pad": pad}}) for n in range(COUNT))) + "\n"


class Api:
    """One connection."""

    def __init__(self, gateway):
        self.connection = gateway.api_connection()
        self.connection.timeout = 30
        self.headers = {"Authorization": "Bearer " + gateway.token_file.read_text().strip()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def __call__(self, method, path, body=None, **headers):
        self.connection.request(method, path, body, {**self.headers, "Content-Type": "application/json", **headers})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def watch(self, path):
        """The response, still being told."""
        self.connection.request("GET", path, headers=self.headers)
        return self.connection.getresponse()


MAPS = "/api/v1/namespaces/default/configmaps"


def events(response):
    """The events that come, until the server ends."""
    while line := response.readline():
        yield json.loads(line)


def test_ten_thousand_objects(gateway):  # noqa: F811
    gateway.write("maps.yaml", manifests(0))
    gateway.start()
    with Api(gateway) as api, Api(gateway) as watcher:
        started = time.monotonic()
        names, token, pages = [], "", 0
        while pages == 0 or token:
            status, page = api("GET", f"{MAPS}?limit=500" + (f"&continue={token}" if token else ""))
            assert status == 200
            names += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue", "")
            pages += 1
        took = time.monotonic() - started
        assert len(set(names)) == len(names) == COUNT and pages == COUNT // 500
        assert took < 1, took
        version = page["metadata"]["resourceVersion"]
        # Each of 10,000 changes is told, once and in order.
        response = watcher.watch(f"{MAPS}?watch=1&resourceVersion={version}")
        gateway.write("maps.yaml", manifests(1))
        seen = []
        for event in events(response):
            assert event["type"] == "MODIFIED" and event["object"]["data"]["v"] == "1"
            seen.append((event["object"]["metadata"]["name"], int(event["object"]["metadata"]["resourceVersion"])))
            if len(seen) == COUNT:
                break
        assert len({name for name, _ in seen}) == COUNT and [v for _, v in seen] == sorted({v for _, v in seen})
        # So many are not kept for those who come later: they list again.
        assert api("GET", f"{MAPS}?watch=1&resourceVersion={version}")[1]["object"]["code"] == 410
    gateway.stop()


def test_a_slow_watcher_is_cut_and_hurts_nobody(gateway):  # noqa: F811
    gateway.start()
    context = ssl.create_default_context(cafile=gateway.token_file.parent / "api-tls.pem")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", gateway.api_port))
    slow = context.wrap_socket(raw, server_hostname="127.0.0.1")
    token = gateway.token_file.read_text().strip()
    slow.sendall(f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert slow.recv(12) == b"HTTP/1.1 200"
    told = []
    with Api(gateway) as writer, Api(gateway) as fast:
        response = fast.watch(f"{MAPS}?watch=1")

        def read():
            # Ends with the connection.
            with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
                told.extend(e["object"]["data"]["v"] for e in events(response))
        threading.Thread(target=read, daemon=True).start()
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"v": "0", "pad": "x" * 900_000}}
        assert writer("POST", MAPS, json.dumps(body))[0] == 201
        for n in range(1, 30):
            body["data"]["v"] = str(n)
            assert writer("PUT", f"{MAPS}/m", json.dumps(body))[0] == 200
        wait_until(lambda: told == [str(n) for n in range(30)], 10, "all changes, for who reads them")
        # 27 MB were to be told; the slow one never gets to the last.
        slow.settimeout(10)
        got = 0
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            while chunk := slow.recv(1 << 20):
                got += len(chunk)
            raise EOFError
        assert got < 20 << 20
        assert writer("GET", f"{MAPS}/m")[0] == 200
    slow.close()


def test_watches_are_limited(gateway):  # noqa: F811
    gateway.start()
    held = []
    try:
        for _ in range(256):
            api = Api(gateway)
            held.append(api)
            assert api.watch(f"{MAPS}?watch=1").status == 200
        with Api(gateway) as api:
            status, answer = api("GET", f"{MAPS}?watch=1")
            assert (status, answer["reason"], answer["message"]) == (429, "TooManyRequests", "there are too many watches")
            assert api("GET", MAPS)[0] == 200
            held.pop().connection.close()

            def free():
                with Api(gateway) as one:
                    return one.watch(f"{MAPS}?watch=1&timeoutSeconds=0").status
            # A client may have ended its direction alone, so that it takes seconds until it counts as gone.
            wait_until(lambda: free() == 200, 15, "a free place")
    finally:
        for api in held:
            api.connection.close()


def test_hostile_bodies(gateway):  # noqa: F811
    gateway.start()
    with Api(gateway) as api:
        for depth in (63, 64, 100_000):
            value = "[" * depth + "]" * depth
            status, answer = api("POST", MAPS, '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "x": %s}' % value)
            assert status == (201 if depth == 63 else 400), (depth, answer)
        assert json.dumps(api("GET", f"{MAPS}/d")[1]["x"]) == "[" * 63 + "]" * 63
        for body in ("", "{", "null", "[]", "7", '{"kind": "ConfigMap"}', '{"metadata": 7, "kind": "ConfigMap", "apiVersion": "v1"}'):
            for method, path in (("POST", MAPS), ("PUT", f"{MAPS}/x"), ("PATCH", f"{MAPS}/x")):
                kind = {"Content-Type": "application/apply-patch+yaml"} if method == "PATCH" else {}
                status, _ = api(method, path + "?fieldManager=t", body, **kind)
                assert 400 <= status < 500, (method, body, status)
        for body in (b"k8s\0", b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"k8s\0\x12\xff\xff\xff\xff\x0f"):
            assert api("POST", MAPS, body, **{"Content-Type": "application/vnd.kubernetes.protobuf"})[0] == 400
        status, answer = api("POST", MAPS, "x" * (4 << 20))
        assert (status, answer["reason"]) == (413, "RequestEntityTooLarge") and "3145728 bytes" in answer["message"]
    # Of unknown length, without an end.
    with Api(gateway) as api:
        def chunks():
            for _ in range(64):
                yield b"x" * (1 << 16)
        try:
            api.connection.request("POST", MAPS, chunks(), {**api.headers, "Content-Type": "application/json"}, encode_chunked=True)
            assert api.connection.getresponse().status == 413
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # cut while it sent
    # One who sends a byte now and then holds up nobody.
    with Api(gateway) as slow, Api(gateway) as api:
        slow.connection.putrequest("POST", MAPS)
        for name, value in {**slow.headers, "Content-Type": "application/json", "Content-Length": "1000"}.items():
            slow.connection.putheader(name, value)
        slow.connection.endheaders()
        for _ in range(20):
            slow.connection.send(b" ")
            started = time.monotonic()
            assert api("GET", MAPS)[0] == 200 and time.monotonic() - started < 0.5
    assert gateway.process.poll() is None


def replace(gateway):
    """Lets a new process take over from the gateway's."""
    before = gateway.process
    known = len(re.findall(STARTED, gateway.errors()))
    before.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(re.findall(STARTED, gateway.errors())) > known, 10, "the new process")
    pid = int(re.findall(STARTED, gateway.errors())[-1])
    assert before.wait(20) == 0
    gateway.process = Adopted(pid)


STARTED = r"started the new binary as process (\d+)"


def test_replaced_while_it_is_used(gateway):  # noqa: F811
    """A process takes over: what was acknowledged stays, and a client that watches as clients do misses nothing."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the new process becomes our child
    gateway.start()
    known, done, errors = {}, threading.Event(), []

    def follow():
        while not done.is_set():
            try:
                with Api(gateway) as api:
                    status, listed = api("GET", MAPS)
                    assert status == 200
                    known.clear()
                    known.update({i["metadata"]["name"]: i["data"]["v"] for i in listed["items"]})
                    version = listed["metadata"]["resourceVersion"]
                    while not done.is_set():
                        for event in events(api.watch(f"{MAPS}?watch=1&timeoutSeconds=2&resourceVersion={version}")):
                            if event["type"] == "ERROR":
                                assert event["object"]["code"] == 410
                                raise ConnectionError("list again")
                            known[event["object"]["metadata"]["name"]] = event["object"]["data"]["v"]
                            version = event["object"]["metadata"]["resourceVersion"]
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.01)
            except AssertionError as error:
                errors.append(error)

    follower = threading.Thread(target=follow)
    follower.start()
    acknowledged, refused, replaced_at = {}, 0, {40, 80}
    replacements = []
    try:
        for n in range(120):
            if n in replaced_at:
                for replacement in replacements:
                    replacement.join()
                replacements.append(threading.Thread(target=replace, args=[gateway]))
                replacements[-1].start()
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"r{n % 5}"}, "data": {"v": str(n)}}
            for _ in range(400):
                try:
                    with Api(gateway) as api:
                        status, _ = api("PATCH", f"{MAPS}/r{n % 5}?fieldManager=t&force=true", json.dumps(body),
                                        **{"Content-Type": "application/apply-patch+yaml"})
                    assert status in (200, 201), status
                    acknowledged[f"r{n % 5}"] = str(n)
                    break
                except (OSError, http.client.HTTPException):
                    refused += 1
                    time.sleep(0.01)
            else:
                raise AssertionError("nobody answers any more")
            time.sleep(0.02)
        wait_until(lambda: known == acknowledged, 10, "the watcher to know all")
        for name, value in acknowledged.items():
            stored = yaml.safe_load((gateway.directory / f"configmaps/default/{name}.yaml").read_text())
            assert stored["data"]["v"] == value
    finally:
        done.set()
        follower.join()
        for replacement in replacements:
            replacement.join()
    assert not errors
    assert len(re.findall(STARTED, gateway.errors())) == 2


def test_json_stays_json_and_comments_stay(gateway):  # noqa: F811
    gateway.write("one.json", json.dumps(json.loads(route("one")), indent=2))
    gateway.write("list.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(route(n)) for n in ("two", "three")]}))
    parts = [f"# about {name}\n" + yaml.safe_dump(json.loads(route(name))) + f"# after {name}\n" for name in ("a", "b", "c")]
    gateway.write("many.yaml", "---\n".join(parts))
    gateway.start()
    gateway.kubectl("annotate", "ingress", "one", "two", "b", "higress.io/rewrite-target=/x")
    gateway.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=route("three", host="other.com"))
    one = json.loads((gateway.directory / "one.json").read_text())
    assert one["metadata"]["annotations"]["higress.io/rewrite-target"] == "/x"
    items = json.loads((gateway.directory / "list.json").read_text())["items"]
    assert [i["metadata"]["name"] for i in items] == ["two", "three"] and items[1]["spec"]["rules"][0]["host"] == "other.com"
    text = (gateway.directory / "many.yaml").read_text().split("---\n")
    assert text[0] == parts[0] and text[2] == parts[2] and text[1].startswith("# about b\n")
    gateway.kubectl("delete", "ingress", "two", "a")
    assert [i["metadata"]["name"] for i in json.loads((gateway.directory / "list.json").read_text())["items"]] == ["three"]
    assert (gateway.directory / "many.yaml").read_text() == "---\n" + "---\n".join(text[1:])
