"""Peers beyond plain HTTP/1: an HTTP/2 client and server with control over each frame, certificates, Kubernetes objects,
and what the admin port says."""

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import socket
import ssl
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness import wait_until

CANCEL = h2.errors.ErrorCodes.CANCEL
NO_ERROR = h2.errors.ErrorCodes.NO_ERROR


def sha(data):
    return hashlib.sha256(data).hexdigest()


# --- what the admin port says


def metrics(gateway):
    """{`name` or `name{labels}`: value} of /stats/prometheus."""
    found = {}
    for line in gateway.admin("/stats/prometheus").splitlines():
        if line and line[0] != "#":
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def memory(gateway):
    return json.loads(gateway.admin("/memory"))


def descriptors(gateway):
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def upstream_connections(gateway):
    return sum(e.get("connections", 0) for c in json.loads(gateway.admin("/clusters")) for e in c["endpoints"])


@contextlib.contextmanager
def nothing_left(gateway, blocks=256 * 1024):
    """What happens inside leaves no exchange, connection, descriptor or I/O block behind, except upstream connections that
    are kept."""
    def own_descriptors():
        return descriptors(gateway) - upstream_connections(gateway)

    wait_until(lambda: memory(gateway)["exchanges"] == 0, 10, "the exchanges to end")
    before_descriptors, before = own_descriptors(), memory(gateway)
    yield
    wait_until(lambda: memory(gateway)["exchanges"] == 0, 15, "the exchanges to end")
    wait_until(lambda: memory(gateway)["connections"] <= before["connections"], 15, "the connections to end")
    wait_until(lambda: own_descriptors() <= before_descriptors, 15, f"descriptors to come down to {before_descriptors}")
    wait_until(lambda: memory(gateway)["block_bytes_in_use"] <= before["block_bytes_in_use"] + blocks, 5,
               "the blocks to be given back")


# --- certificates


class Authority:
    """A certificate authority for one test. `above`: the authority that issued its certificate; `levels`: of authorities
    that may be below it."""

    def __init__(self, name="Test CA", above=None, levels=0):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(above.name if above else self.name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=levels), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(above.key if above else self.key, hashes.SHA256()))

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, *names, subject=None, uris=(), client=False, days=(-1, 30)):
        """(certificate, key) as PEM texts, for DNS names and IP addresses; valid from and to these days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        alternatives += [x509.UniformResourceIdentifier(uri) for uri in uris]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or names[0])]))
            .issuer_name(self.name).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0])).not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False))
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return (certificate.public_bytes(serialization.Encoding.PEM).decode(),
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                  serialization.NoEncryption()).decode())

    def client_context(self, alpn=None, certificate=None, minimum=None, maximum=None, check=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        if not check:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        if certificate:
            load_pair(context, certificate)
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        return context

    def server_context(self, *names, alpn=None, client_authority=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_pair(context, self.issue(*names))
        if alpn:
            context.set_alpn_protocols(alpn)
        if client_authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_authority.pem)
        return context


def load_pair(context, pair):
    """ssl wants files."""
    import tempfile
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pair[0] + pair[1])
        file.flush()
        context.load_cert_chain(file.name)


# --- Kubernetes objects


def manifest(kind, name, spec=None, api="v1", namespace="default", annotations=None, **more):
    document = {"apiVersion": api, "kind": kind,
                "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}}, **more}
    if spec is not None:
        document["spec"] = spec
    return json.dumps(document) + "\n"


def tls_secret(name, pair, ca=None, namespace="higress-system"):
    data = {"tls.crt": pair[0], "tls.key": pair[1]}
    if ca:
        data["ca.crt"] = ca
    return manifest("Secret", name, namespace=namespace, type="kubernetes.io/tls", data={
        key: base64.b64encode(value.encode()).decode() for key, value in data.items()})


def opaque_secret(name, namespace="higress-system", **data):
    return manifest("Secret", name, namespace=namespace, type="Opaque", data={
        key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()})


def service(name, port, target_port, addresses=("127.0.0.1",), app_protocol=None, port_name="main"):
    """A Service and its EndpointSlice."""
    entry = {"name": port_name, "port": port, "targetPort": target_port}
    if app_protocol:
        entry["appProtocol"] = app_protocol
    slice_ = manifest("EndpointSlice", f"{name}-1", api="discovery.k8s.io/v1", addressType="IPv4",
                      ports=[{"name": port_name, "port": target_port}],
                      endpoints=[{"addresses": [a], "conditions": {"ready": True}} for a in addresses])
    document = json.loads(slice_)
    document["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    return manifest("Service", name, {"ports": [entry]}) + "---\n" + json.dumps(document) + "\n"


def service_ingress(name, service_name, port, host=None, path="/", annotations=None, secret=None):
    rule = {"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": {
        "service": {"name": service_name, "port": {"number": port}}}}]}}
    if host:
        rule["host"] = host
    spec = {"ingressClassName": "higress", "rules": [rule]}
    if secret:
        spec["tls"] = [{"hosts": [host], "secretName": secret}]
    return manifest("Ingress", name, spec, api="networking.k8s.io/v1", annotations=annotations)


# --- HTTP/2


def header(headers, name):
    return next((value for key, value in headers if key == name), None)


class Message:
    """What has arrived on a stream."""

    def __init__(self):
        self.headers = []
        self.informational = []
        self.body = bytearray()
        self.trailers = []
        self.ended = False
        self.reset = None  # error code of RST_STREAM
        self.reset_after_end = False

    @property
    def status(self):
        value = header(self.headers, ":status")
        return int(value) if value else None

    def header(self, name):
        return header(self.headers, name)

    def trailer(self, name):
        return header(self.trailers, name)

    @property
    def over(self):
        return self.ended or self.reset is not None

    def __repr__(self):
        return (f"Message({self.headers}, {len(self.body)} bytes {bytes(self.body[:40])!r}, trailers={self.trailers}, "
                f"ended={self.ended}, reset={self.reset})")


def text(headers):
    return [(n.decode() if isinstance(n, bytes) else n, v.decode("latin-1") if isinstance(v, bytes) else v)
            for n, v in headers]


class Machine(h2.connection.H2Connection):
    """After GOAWAY, h2 refuses each further frame; RFC 9113 lets streams under way finish."""

    def _receive_goaway_frame(self, frame):
        state = self.state_machine.state
        result = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        return result

    def close_connection(self, *args, **kwargs):
        state = self.state_machine.state
        super().close_connection(*args, **kwargs)
        self.state_machine.state = state


class H2Client:
    """One HTTP/2 connection, driven by its user: nothing is read but inside pump() and what calls it. `credit`: return
    flow-control windows as data arrives; `window`: the stream window we offer."""

    def __init__(self, port, context=None, sni="test.com", host="127.0.0.1", credit=True, window=None, timeout=10,
                 before=b"", family=None):
        if family == socket.AF_UNIX:
            self.socket = socket.socket(family)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection((host, port), timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            self.socket.sendall(before)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=sni)
            assert self.socket.selected_alpn_protocol() == "h2"
        self.timeout = timeout
        self.scheme = "https" if context else "http"
        self.credit = credit
        self.streams = {}
        self.goaway = None  # (error, last stream id)
        self.goaways = []
        self.closed = False
        self.settings = {}
        self.uncredited = {}
        self.h2 = Machine(h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False,
            validate_inbound_headers=False))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def request(self, method="GET", path="/", host="test.com", headers=(), body=None, end=None, trailers=None,
                pseudo=None):
        """Opens a stream and sends the head, and the body if there is one. Returns the stream id."""
        identifier = self.h2.get_next_available_stream_id()
        fields = pseudo if pseudo is not None else [
            (":method", method), (":scheme", self.scheme), (":authority", host), (":path", path)]
        self.streams[identifier] = Message()
        end = trailers is None if end is None else end  # after the body, if there is one
        self.h2.send_headers(identifier, list(fields) + list(headers), end_stream=end and body is None)
        self.flush()
        if body is not None:
            self.send(identifier, body, end)
        if trailers is not None:
            self.h2.send_headers(identifier, trailers, end_stream=True)
            self.flush()
        return identifier

    def send(self, identifier, data, end=False, patience=None):
        """Sends as the windows allow. False: the stream or the connection ended first, or there was no window for
        `patience` seconds; `self.left` has then the bytes not sent."""
        view = memoryview(data)
        message = self.streams[identifier]
        while view or end:
            self.left = len(view)
            if message.over or self.closed:
                return False
            room = min(self.h2.local_flow_control_window(identifier), self.h2.max_outbound_frame_size, len(view))
            if view and room <= 0:
                if not self.pump(patience or self.timeout):
                    return False
                continue
            chunk, view = view[:room], view[room:]
            self.h2.send_data(identifier, bytes(chunk), end_stream=end and not view)
            if end and not view:
                end = False
            try:
                self.flush()
            except ConnectionError:
                self.closed = True
                return False
        self.left = 0
        return True

    def pump(self, seconds=0.0):
        """Reads once, within the time, and notes what came. False: nothing came."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, socket.timeout, ssl.SSLWantReadError):
            return False
        except ConnectionError:
            data = b""
        finally:
            self.socket.settimeout(self.timeout)
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            self.note(event)
        with contextlib.suppress(ConnectionError):
            self.flush()
        return True

    def note(self, event):
        message = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.InformationalResponseReceived):
            message.informational.append(text(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            message.headers = text(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            message.trailers = text(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            message.body += event.data
            if self.credit:
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                self.uncredited[event.stream_id] = self.uncredited.get(event.stream_id, 0) + event.flow_controlled_length
        elif isinstance(event, h2.events.StreamEnded):
            message.ended = True
        elif isinstance(event, h2.events.StreamReset):
            message.reset_after_end = message.ended
            message.reset = event.error_code
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            for code, change in event.changed_settings.items():
                self.settings[code] = change.new_value
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = (event.error_code, event.last_stream_id)
            self.goaways.append(self.goaway)

    def give_credit(self, identifier):
        amount = self.uncredited.pop(identifier, 0)
        if amount:
            self.h2.acknowledge_received_data(amount, identifier)
            self.flush()

    def until(self, condition, seconds=10, what="the condition"):
        end = time.monotonic() + seconds
        while not (value := condition()):
            left = end - time.monotonic()
            if left <= 0 or self.closed:
                raise AssertionError(f"{what}: {'connection closed' if self.closed else 'did not come'}; streams "
                                     f"{dict(list(self.streams.items())[-4:])}, goaway={self.goaway}")
            self.pump(left)
        return value

    def response(self, identifier, seconds=10):
        message = self.streams[identifier]
        self.until(lambda: message.over, seconds, f"the end of stream {identifier}")
        return message

    def head(self, identifier, seconds=10):
        message = self.streams[identifier]
        self.until(lambda: message.headers or message.over, seconds, f"the head of stream {identifier}")
        return message

    def get(self, path="/", **options):
        return self.response(self.request(path=path, **options))

    def reset(self, identifier, error=CANCEL):
        self.h2.reset_stream(identifier, error)
        self.flush()

    def ended(self, seconds=10):
        """True if the peer closes the connection in time."""
        end = time.monotonic() + seconds
        while not self.closed and time.monotonic() < end:
            self.pump(end - time.monotonic())
        return self.closed


class H2Stream(Message):
    """A stream at the backend; its methods may be called from any thread."""

    def __init__(self, connection, identifier):
        super().__init__()
        self.connection = connection
        self.id = identifier
        self.credit = True
        self.changed = connection.changed

    @property
    def method(self):
        return self.header(":method")

    @property
    def path(self):
        return self.header(":path")

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def wait(self, condition, seconds=10, what="the stream"):
        with self.changed:
            assert self.changed.wait_for(lambda: condition() or self.connection.gone, seconds), what
            if not condition():
                raise EOFError("connection gone")

    def wait_end(self, seconds=20):
        self.wait(lambda: self.over, seconds)

    def respond(self, status=200, headers=(), body=None, trailers=None, end=True):
        with self.changed:
            done = end and not body and trailers is None
            self.connection.h2.send_headers(self.id, [(":status", str(status)), *headers], end_stream=done)
            self.connection.flush()
        if body:
            self.send(body, end=end and trailers is None)
        if trailers is not None:
            self.send_trailers(trailers)

    def send(self, data, end=False):
        view = memoryview(data)
        machine = self.connection.h2
        while view or end:
            with self.changed:
                def room():
                    return min(machine.local_flow_control_window(self.id), machine.max_outbound_frame_size)
                if view and not self.changed.wait_for(lambda: self.reset is not None or self.connection.gone or room() > 0, 30):
                    raise TimeoutError("no window")
                if self.reset is not None or self.connection.gone:
                    raise EOFError("stream reset")
                n = min(room(), len(view)) if view else 0
                machine.send_data(self.id, bytes(view[:n]), end_stream=end and n == len(view))
                if end and n == len(view):
                    end = False
                view = view[n:]
                self.connection.flush()

    def send_trailers(self, trailers):
        with self.changed:
            self.connection.h2.send_headers(self.id, trailers, end_stream=True)
            self.connection.flush()

    def abort(self, error=h2.errors.ErrorCodes.INTERNAL_ERROR):
        with self.changed:
            self.connection.h2.reset_stream(self.id, error)
            self.connection.flush()


class H2BackendConnection:
    def __init__(self, backend, accepted):
        self.backend = backend
        self.socket = accepted
        self.changed = threading.Condition(threading.RLock())
        self.gone = False
        self.streams = {}
        self.goaway = False
        self.h2 = Machine(h2.config.H2Configuration(
            client_side=False, header_encoding=None, validate_outbound_headers=False, validate_inbound_headers=False,
            normalize_outbound_headers=False))

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def go_away(self, last_stream_id, error=NO_ERROR):
        with self.changed:
            self.goaway = True
            self.h2.close_connection(error_code=error, last_stream_id=last_stream_id)
            self.flush()

    def run(self):
        backend = self.backend
        if backend.context is not None:
            self.socket = backend.context.wrap_socket(self.socket, server_side=True)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.changed:
            if backend.settings:
                self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
                    **dict(self.h2.local_settings), **backend.settings})
            self.h2.initiate_connection()
            self.h2.increment_flow_control_window(1 << 26)  # of the connection: only streams are held back
            self.flush()
        try:
            while data := self.socket.recv(65536):
                with self.changed:
                    for event in self.h2.receive_data(data):
                        self.note(event)
                    self.flush()
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.gone = True
                self.changed.notify_all()
            with contextlib.suppress(OSError):
                self.socket.close()

    def note(self, event):
        backend = self.backend
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            stream = self.streams[event.stream_id] = H2Stream(self, event.stream_id)
            stream.headers = text(event.headers)
            stream.credit = backend.credit
            with backend.lock:
                backend.requests.append(stream)
            threading.Thread(target=backend.serve_stream, args=(stream,), daemon=True).start()
        elif stream is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if stream.credit and event.flow_controlled_length:
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = text(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = event.error_code


class H2Backend:
    """An HTTP/2 server by prior knowledge (or TLS with `context`). handler(stream) runs in a thread of its own as soon as
    a request's head is there; by default the whole request is awaited and answered 200 `ok`."""

    def __init__(self, handler=None, context=None, settings=None, credit=True):
        self.handler = handler or (lambda stream: (stream.wait_end(), stream.respond(body=b"ok")))
        self.context = context
        self.settings = settings
        self.credit = credit
        self.lock = threading.Lock()
        self.requests = []
        self.connections = []
        self.failures = []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                accepted, _ = self.socket.accept()
            except OSError:
                return
            connection = H2BackendConnection(self, accepted)
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            connection.run()

    def serve_stream(self, stream):
        try:
            self.handler(stream)
        except (EOFError, OSError, h2.exceptions.ProtocolError):
            pass
        except Exception as error:  # shown by the test that looks at `failures`
            self.failures.append(error)

    def stop(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
