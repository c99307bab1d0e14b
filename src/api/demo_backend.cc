#include "api/demo_backend.h"

#include <charconv>

#include "compile/json_writer.h"

namespace sluice::api {
namespace {

// Header names as httpbin prints them: "X-Forwarded-For".
std::string title_case(std::string_view name) {
  std::string out(name);
  bool start = true;
  for (char& c : out) {
    if (start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    start = c == '-';
  }
  return out;
}

std::string describe(const ServiceRequest& request) {
  compile::JsonWriter out;
  out.begin_object();
  out.key("args").begin_object();
  std::string_view rest = request.query;
  while (!rest.empty()) {
    const size_t end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    const size_t equals = pair.find('=');
    out.key(url_decode(pair.substr(0, equals)))
        .value(equals == std::string_view::npos ? std::string() : url_decode(pair.substr(equals + 1)));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  out.end_object();
  if (request.method != "GET") out.key("data").value(request.body);
  out.key("headers").begin_object();
  out.key("Host").value(request.authority);
  for (const auto& [name, value] : request.headers) out.key(title_case(name)).value(value);
  out.end_object();
  out.key("method").value(request.method);
  out.key("origin").value(request.peer);
  out.key("url").value(request.scheme + "://" + request.authority + request.path +
                       (request.query.empty() ? "" : "?" + request.query));
  out.end_object();
  return out.take() + "\n";
}

}  // namespace

DemoBackend::DemoBackend() : service_(loop_, &DemoBackend::handle) {}

DemoBackend::~DemoBackend() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

Status DemoBackend::start(uint16_t port) {
  Status listening = service_.listen(net::Address::ipv4(127, 0, 0, 1, port));
  if (!listening.ok()) return listening;
  thread_ = std::thread([this] { loop_.run(); });
  return {};
}

void DemoBackend::handle(const ServiceRequest& request, HttpService::Respond respond) {
  ServiceResponse response;
  const std::string_view path = request.path;
  if (path == "/foo" || path == "/bar") {
    response.body = path.substr(1);
  } else if (path == "/get" || path.substr(0, 9) == "/anything" || path == "/post") {
    response.content_type = "application/json";
    response.body = describe(request);
  } else if (path.substr(0, 8) == "/status/") {
    int status = 0;
    std::from_chars(path.data() + 8, path.data() + path.size(), status);
    response.status = status >= 200 && status <= 599 ? status : 400;
  } else if (path == "/sse") {
    response.content_type = "text/event-stream";
    response.body = "data: one\n\ndata: two\n\ndata: three\n\n";
  } else {
    response.status = 404;
    response.body = "the demo backend knows /foo, /bar, /get, /anything, /post, /status/N and /sse\n";
  }
  respond(std::move(response));
}

}  // namespace sluice::api
