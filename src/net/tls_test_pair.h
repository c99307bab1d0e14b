#pragma once
// Both ends of a TLS connection in one thread, over a socket pair. For tests.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "net/tls_context.h"
#include "net/tls_session.h"

namespace sluice::net {

// Exact names, and "*" for anything else.
struct MapSelector : TlsServerSelector {
  std::map<std::string, std::shared_ptr<const TlsContext>, std::less<>> contexts;
  std::string asked;

  MapSelector() = default;
  explicit MapSelector(std::shared_ptr<const TlsContext> any) { contexts["*"] = std::move(any); }

  std::shared_ptr<const TlsContext> select(std::string_view sni) override {
    asked = sni;
    auto found = contexts.find(sni);
    if (found == contexts.end()) found = contexts.find("*");
    return found == contexts.end() ? nullptr : found->second;
  }
};

class TlsPair {
 public:
  TlsPair(TlsServerSelector& selector, std::shared_ptr<const TlsContext> client_context,
          const TlsConnectOptions& options = {}, int socket_buffer = 0) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds_), 0);
    for (int fd : fds_) {
      if (socket_buffer) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &socket_buffer, sizeof(socket_buffer));
    }
    server = TlsSession::accept(fds_[0], selector);
    client = TlsSession::connect(fds_[1], std::move(client_context), options);
  }
  ~TlsPair() {
    server.reset();
    client.reset();
    close_client();
    close_server();
  }

  // True if both sides are done.
  bool handshake() {
    for (int round = 0; round < 1000; ++round) {
      client_result = client->handshake();
      server_result = server->handshake();
      flush();
      bool client_over = client_result.status != IoStatus::kAgain;
      bool server_over = server_result.status != IoStatus::kAgain;
      if (client_over && server_over) break;
      if (client_result.status == IoStatus::kError && server_over) break;
    }
    return client_result.status == IoStatus::kOk && server_result.status == IoStatus::kOk;
  }

  void flush() {
    if (server->has_pending_output()) (void)server->flush();
    if (client->has_pending_output()) (void)client->flush();
  }

  static IoResult write(TlsSession& session, std::string_view bytes) {
    iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
    return session.writev(&iov, 1);
  }

  // Reads until kAgain or the end; `last` gets the final status.
  static std::string drain(TlsSession& session, IoStatus* last = nullptr) {
    std::string all;
    char buffer[8192];
    for (;;) {
      IoResult result = session.read(buffer, sizeof(buffer));
      if (last) *last = result.status;
      if (result.status != IoStatus::kOk) return all;
      all.append(buffer, result.bytes);
    }
  }

  int server_fd() const { return fds_[0]; }
  int client_fd() const { return fds_[1]; }
  void close_client() { close_fd(fds_[1]); }
  void close_server() { close_fd(fds_[0]); }

  std::unique_ptr<TlsSession> server, client;
  IoResult server_result{IoStatus::kAgain}, client_result{IoStatus::kAgain};

 private:
  static void close_fd(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
  int fds_[2] = {-1, -1};
};

}  // namespace sluice::net
