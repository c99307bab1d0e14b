// Serves HTTP/2 in clear on a loopback port: every request is answered 200 with its own body, or
// "hello\n" if it has none. For h2spec, h2load, nghttp and curl against the codec alone.
//
//   http2_echo_server PORT
//
// At the end (SIGINT, SIGTERM) it prints how many requests it served, the CPU time it used, and
// block memory in use.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <malloc.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "event/loop.h"
#include "http/http2_server.h"

using namespace sluice;

namespace {

uint64_t requests = 0;

class Echo final : public http::StreamHandler {
 public:
  Echo(http::ServerStream& stream, http::RequestHead& head, bool end) : stream_(stream) {
    http::HeaderMap headers(head.headers.arena());
    headers.add(http::HeaderId::kContentType, "text/plain");
    headers.add(http::HeaderId::kServer, "echo");
    http::ResponseHead response;
    response.status = 200;
    response.headers = headers;
    response.upgrade = !head.upgrade.empty();
    if (end) response.content_length = 6;
    stream_.send_head(response, false);
    if (end) stream_.send_data(Slice::unowned("hello\n"), true);
  }

  static Echo* start(http::ServerStream& stream, http::RequestHead& head, bool end) {
    ++requests;
    auto* echo = new Echo(stream, head, end);
    if (!end) return echo;
    stream.detach();
    delete echo;
    return nullptr;
  }

 private:
  void on_data(Slice data, bool end) override {
    stream_.send_data(std::move(data), end);
    if (end) return finish();
    if (stream_.buffered() > 256 * 1024) stream_.pause();
  }
  void on_trailers(const http::HeaderMap& trailers) override {
    stream_.send_trailers(trailers);
    finish();
  }
  void on_drained() override { stream_.resume(); }
  void on_reset(http::StreamError, std::string_view) override { delete this; }
  void finish() {
    stream_.detach();
    delete this;
  }

  http::ServerStream& stream_;
};

class Server final : public event::IoHandler,
                     public http::ServerCallbacks,
                     public http::ServerConnection::Owner {
 public:
  Server(event::Loop& loop, uint16_t port) : loop_(loop) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        listen(fd_, 1024) != 0) {
      std::perror("listen");
      std::exit(1);
    }
    if (!loop_.add(fd_, this, EPOLLIN).ok()) std::exit(1);
  }

  size_t connections() const { return connections_; }

 private:
  void on_io(uint32_t) override {
    while (true) {
      const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      net::set_no_delay(fd);
      auto* connection = new http::Http2ServerConnection(
          loop_, net::Stream(fd), http::ConnectionInfo(), settings_, *this, *this);
      ++connections_;
      connection->start(Slice());
    }
  }
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head,
                                  bool end) override {
    return Echo::start(stream, head, end);
  }
  void on_refused(const http::ConnectionInfo&, int, std::string_view) override {}
  void on_closed(http::ServerConnection&) override { --connections_; }
  bool draining() const override { return false; }

  event::Loop& loop_;
  int fd_;
  size_t connections_ = 0;
  http::Http2Settings settings_;
};

event::Loop* running = nullptr;

}  // namespace

int main(int argc, char** argv) {
  event::Loop loop;
  Server server(loop, static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 8081));
  running = &loop;
  std::signal(SIGINT, [](int) { running->stop(); });
  std::signal(SIGTERM, [](int) { running->stop(); });
  std::signal(SIGUSR1, [](int) {});
  std::signal(SIGPIPE, SIG_IGN);
  loop.run();
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto micros = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec);
  };
  const double user = micros(usage.ru_utime);
  const double system = micros(usage.ru_stime);
  std::printf("requests %lu, connections open %zu, cpu us/request: user %.2f system %.2f\n",
              requests, server.connections(), requests ? user / static_cast<double>(requests) : 0,
              requests ? system / static_cast<double>(requests) : 0);
  const struct mallinfo2 heap = mallinfo2();
  std::printf("blocks in use %zu, heap in use %zu\n", block_pool_stats().in_use_bytes,
              heap.uordblks);
  return 0;
}
