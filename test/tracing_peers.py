"""Receivers of spans: the official OTLP protocol over gRPC and HTTP, SkyWalking's segment stream, a Zipkin server."""

import json
import os
import pathlib
import shutil
import subprocess
import threading
import urllib.request
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from harness import free_port, wait_until


def flat(request):
    """The spans of an OTLP export request as dictionaries, attributes as strings."""
    spans = []
    for resource_spans in request.resource_spans:
        resource = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                spans.append({
                    "service": resource.get("service.name"), "trace_id": span.trace_id.hex(), "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(), "name": span.name, "kind": span.kind,
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano, "error": span.status.code == 2,
                    "state": span.trace_state, "tags": {a.key: a.value.string_value for a in span.attributes}})
    return spans


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """OTLP over gRPC (`grpc_port`) and HTTP (`http_port`)."""

    def __init__(self):
        self.spans, self.requests, self.fail = [], 0, False
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.grpc_port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                good = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                if good:
                    receiver.take(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if good else 404)
                self.send_header("content-length", "0")
                self.end_headers()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http_port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def take(self, request):
        self.requests += 1
        self.spans += flat(request)

    def Export(self, request, context):
        if self.fail:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")
        self.take(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self):
        self.server.stop(0).wait()
        self.http.shutdown()
        self.http.server_close()


def protobuf_fields(data):
    """[(field, value)] of a protobuf message: integers and bytes."""
    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7f) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at
    out, at = [], 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        elif key & 7 == 2:
            size, at = varint(at)
            assert at + size <= len(data)
            value, at = data[at:at + size], at + size
        else:
            raise AssertionError(f"wire type {key & 7}")
        out.append((key >> 3, value))
    return out


class SkyWalkingReceiver:
    """skywalking.v3.TraceSegmentReportService/collect: a stream of SegmentObject."""

    def __init__(self):
        self.segments, self.tokens = [], []
        receiver = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                if details.method != "/skywalking.v3.TraceSegmentReportService/collect":
                    return None

                def collect(messages, context):
                    receiver.tokens += [v for k, v in context.invocation_metadata() if k == "authentication"]
                    receiver.segments += list(messages)
                    return b""
                return grpc.stream_unary_rpc_method_handler(collect)
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((Handler(),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()


CACHE = pathlib.Path(os.environ.get("SLUICE_TEST_CACHE", pathlib.Path.home() / ".cache/sluice-test"))
ZIPKIN_VERSION = "3.4.4"


class ZipkinServer:
    """The real server, in memory. The jar is fetched once."""

    def __init__(self, directory):
        jar = CACHE / f"zipkin-server-{ZIPKIN_VERSION}-exec.jar"
        if not jar.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mvn", "-q", "-B", "-ntp", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
                            f"-Dartifact=io.zipkin:zipkin-server:{ZIPKIN_VERSION}:jar:exec",
                            f"-DoutputDirectory={CACHE}"], check=True, timeout=300)
        self.port = free_port()
        self.log = open(directory / "zipkin.log", "wb")
        self.process = subprocess.Popen(
            [shutil.which("java"), "-Xmx192m", "-XX:+UseSerialGC", "-jar", jar, f"--server.port={self.port}",
             f"--armeria.ports[0].port={self.port}", "--armeria.ports[0].ip=127.0.0.1",
             "--armeria.ports[0].protocols[0]=http"], stdout=self.log, stderr=subprocess.STDOUT)
        try:
            wait_until(self.healthy, 90, "Zipkin")
        except BaseException:
            self.stop()
            raise

    def fetch(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return json.load(response)

    def healthy(self):
        assert self.process.poll() is None, "Zipkin ended"
        try:
            return self.fetch("/health")["status"] == "UP"
        except OSError:
            return False

    def trace(self, identifier):
        try:
            return self.fetch(f"/api/v2/trace/{identifier}")
        except OSError:
            return []

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


class Collector:
    """Rotel, an OpenTelemetry collector; its log tells what came in."""

    def __init__(self, directory):
        import rotel
        self.grpc_port, self.http_port = free_port(), free_port()
        self.path = directory / "rotel.log"
        binary = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        binary.chmod(0o755)
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc_port}", "--otlp-http-endpoint",
                 f"127.0.0.1:{self.http_port}", "--exporter", "blackhole", "--debug-log", "traces"],
                stdout=log, stderr=subprocess.STDOUT)

        def listening():
            import socket
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.grpc_port)) == 0
        wait_until(listening, 20, "the collector")

    def text(self):
        return self.path.read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
