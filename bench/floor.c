// The floor: a minimal epoll relay without features, the least that any proxy on this kernel can cost. One thread; each
// client connection has its own upstream connection; bytes are copied between them as they come. Per small request it does
// what a proxy can't avoid: two reads, two writes, and its share of epoll_wait.
//
// usage: floor LISTEN_PORT UPSTREAM_PORT   (loopback)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kBuffer = 65536, kEvents = 256 };

struct side {
  int fd;
  struct side* peer;
  char* pending;  // bytes that could not be written to this side
  size_t pending_size, pending_at;
  int closed;
};

static int epoll_fd;
static char buffer[kBuffer];

static void watch(struct side* s, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = s};
  epoll_ctl(epoll_fd, operation, s->fd, &event);
}

static void drop(struct side* s) {
  for (struct side* x = s;; x = s->peer) {
    if (!x->closed) close(x->fd);
    x->closed = 1;
    if (x == s->peer) break;
  }
}

static void flush(struct side* s) {
  while (s->pending_at < s->pending_size) {
    ssize_t n = send(s->fd, s->pending + s->pending_at, s->pending_size - s->pending_at, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN) drop(s);
      return;
    }
    s->pending_at += (size_t)n;
  }
  s->pending_size = s->pending_at = 0;
  watch(s, EPOLLIN, EPOLL_CTL_MOD);
  watch(s->peer, EPOLLIN, EPOLL_CTL_MOD);
}

static void relay(struct side* s) {
  ssize_t n = recv(s->fd, buffer, kBuffer, 0);
  if (n <= 0) {
    if (n == 0 || errno != EAGAIN) drop(s);
    return;
  }
  ssize_t sent = send(s->peer->fd, buffer, (size_t)n, MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN) return drop(s);
    sent = 0;
  }
  if (sent == n) return;
  struct side* p = s->peer;
  if (!p->pending) p->pending = malloc(kBuffer);
  p->pending_size = (size_t)(n - sent);
  p->pending_at = 0;
  memcpy(p->pending, buffer + sent, p->pending_size);
  watch(s, 0, EPOLL_CTL_MOD);
  watch(p, EPOLLOUT | EPOLLIN, EPOLL_CTL_MOD);
}

static void accept_one(int listener, struct sockaddr_in* upstream) {
  int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;
  int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(server, (struct sockaddr*)upstream, sizeof *upstream) < 0 && errno != EINPROGRESS) {
    close(client);
    close(server);
    return;
  }
  struct side* pair = calloc(2, sizeof *pair);
  pair[0].fd = client;
  pair[1].fd = server;
  pair[0].peer = &pair[1];
  pair[1].peer = &pair[0];
  watch(&pair[0], EPOLLIN, EPOLL_CTL_ADD);
  watch(&pair[1], EPOLLIN, EPOLL_CTL_ADD);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s LISTEN_PORT UPSTREAM_PORT\n", argv[0]);
    return 2;
  }
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  signal(SIGPIPE, SIG_IGN);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in upstream = address;
  upstream.sin_port = htons((uint16_t)atoi(argv[2]));
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
    perror("listen");
    return 1;
  }
  epoll_fd = epoll_create1(0);
  struct side listening = {.fd = listener};
  watch(&listening, EPOLLIN, EPOLL_CTL_ADD);
  struct epoll_event events[kEvents];
  for (;;) {
    int n = epoll_wait(epoll_fd, events, kEvents, -1);
    for (int i = 0; i < n; ++i) {
      struct side* s = events[i].data.ptr;
      if (s == &listening) {
        accept_one(listener, &upstream);
        continue;
      }
      if (s->closed) continue;
      if (events[i].events & EPOLLOUT) flush(s);
      if (!s->closed && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (s->peer->pending_size) continue;
        relay(s);
      }
    }
  }
}
