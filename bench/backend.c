// The HTTP/1.1 server behind every proxy that run.py measures: as cheap as it can be, so that the core it shares with
// the load generator goes to the load. One thread, epoll, keep-alive.
//
// usage: backend PORT NAME   (loopback)
//
//   GET /large                1 MiB
//   GET /sse                  text/event-stream, 50 events a second, numbered from 1, until the client leaves
//   Upgrade: websocket        101, then every byte comes back (the accept key is that of RFC 6455's example nonce)
//   POST, PUT                 the body is read to its end (Content-Length only), then as below
//   anything else             200 with 100 bytes; X-Backend: NAME
//
// Whatever it does not understand it answers 501, so that no comparison rests on an error.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { kEvents = 512, kHead = 8192, kLarge = 1 << 20, kBuffer = 65536, kPeriodMs = 20 };

struct connection {
  int fd;
  char* head;  // bytes of an unfinished request head; NULL while there are none
  size_t head_size;
  unsigned long long body_left;
  const char* out;  // static memory still to be sent
  size_t out_left;
  int raw;  // after an upgrade
  unsigned long long event;
  struct connection *next, **link;  // SSE streams of one millisecond
};

static int epoll_fd, timer_fd;
static char buffer[kBuffer];
static char small[512], large_head[256], not_understood[] = "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n";
static size_t small_size, large_size;
static char* large;
static struct connection* wheel[kPeriodMs];
static unsigned tick, streams;

static const char kUpgraded[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char kStream[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";

static void watch(struct connection* c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void end(struct connection* c) {
  if (c->link) {
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    --streams;
  }
  close(c->fd);
  free(c->head);
  free(c);
}

// Returns 0 if the connection has ended.
static int put(struct connection* c, const char* data, size_t size) {
  ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN) return end(c), 0;
    n = 0;
  }
  if ((size_t)n < size) {
    c->out = data + n;
    c->out_left = size - (size_t)n;
    watch(c, EPOLLOUT, EPOLL_CTL_MOD);
  }
  return 1;
}

static int flush(struct connection* c) {
  const char* data = c->out;
  size_t size = c->out_left;
  c->out_left = 0;
  if (!put(c, data, size)) return 0;
  if (!c->out_left) watch(c, EPOLLIN, EPOLL_CTL_MOD);
  return 1;
}

static const char* field(const char* head, const char* name) {
  size_t size = strlen(name);
  for (const char* line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
    if (!strncasecmp(line + 2, name, size) && line[2 + size] == ':')
      return line + 3 + size + strspn(line + 3 + size, " ");
  }
  return NULL;
}

static int start_stream(struct connection* c) {
  if (send(c->fd, kStream, sizeof kStream - 1, MSG_NOSIGNAL) != sizeof kStream - 1) return end(c), 0;
  struct connection** slot = &wheel[streams++ % kPeriodMs];
  c->next = *slot;
  if (c->next) c->next->link = &c->next;
  c->link = slot;
  *slot = c;
  return 1;
}

static int answer(struct connection* c, const char* head) {
  const char* length = field(head, "Content-Length");
  c->body_left = length ? strtoull(length, NULL, 10) : 0;
  if (field(head, "Transfer-Encoding")) return put(c, not_understood, sizeof not_understood - 1);
  if (c->body_left) return 1;
  if (field(head, "Upgrade")) {
    c->raw = 1;
    return put(c, kUpgraded, sizeof kUpgraded - 1);
  }
  const char* path = strchr(head, ' ') + 1;
  if (!strncmp(path, "/sse", 4)) return start_stream(c);
  if (!strncmp(path, "/large", 6)) return put(c, large, large_size);
  return put(c, small, small_size);
}

// Takes `size` bytes at `data` (followed by one writable byte).
static int take(struct connection* c, char* data, size_t size) {
  while (size) {
    if (c->raw) return put(c, data, size);
    if (c->body_left) {
      size_t n = size < c->body_left ? size : c->body_left;
      data += n;
      size -= n;
      c->body_left -= n;
      if (!c->body_left && !put(c, small, small_size)) return 0;
      continue;
    }
    char* finish = NULL;
    if (!c->head) finish = memmem(data, size, "\r\n\r\n", 4);
    if (finish) {  // the usual case: nothing is copied
      size_t n = (size_t)(finish + 4 - data);
      finish[2] = 0;
      if (!answer(c, data)) return 0;
      data += n;
      size -= n;
      continue;
    }
    if (!c->head) c->head = malloc(kHead + 1), c->head_size = 0;
    size_t room = kHead - c->head_size, n = size < room ? size : room;
    memcpy(c->head + c->head_size, data, n);
    finish = memmem(c->head, c->head_size + n, "\r\n\r\n", 4);
    if (!finish) {
      c->head_size += n;
      return c->head_size < kHead ? 1 : (end(c), 0);
    }
    size_t used = (size_t)(finish + 4 - c->head) - c->head_size;
    finish[2] = 0;
    char* head = c->head;
    c->head = NULL;
    int alive = answer(c, head);
    free(head);
    if (!alive) return 0;
    data += used;
    size -= used;
  }
  return 1;
}

static void send_events(void) {
  unsigned long long expired;
  if (read(timer_fd, &expired, sizeof expired) != sizeof expired) return;
  if (expired > kPeriodMs) expired = kPeriodMs;
  for (; expired; --expired) {
    for (struct connection *c = wheel[++tick % kPeriodMs], *next; c; c = next) {
      next = c->next;
      char text[160], chunk[200];
      int n = snprintf(text, sizeof text,
                       "id: %llu\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" gateway\"}}]}\n\n",
                       ++c->event);
      n = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)n, text);
      if (send(c->fd, chunk, (size_t)n, MSG_NOSIGNAL) != n) end(c);
    }
  }
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection* c = calloc(1, sizeof *c);
    c->fd = fd;
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
  }
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: %s PORT NAME [ADDRESS]\n", argv[0]);
    return 2;
  }
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  signal(SIGPIPE, SIG_IGN);

  small_size =
      (size_t)snprintf(small, sizeof small,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\nX-Backend: %s\r\n\r\n"
                       "%0100d",
                       argv[2], 0);
  int n = snprintf(large_head, sizeof large_head,
                   "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", kLarge);
  large_size = (size_t)n + kLarge;
  large = malloc(large_size);
  memcpy(large, large_head, (size_t)n);
  memset(large + n, 'x', kLarge);

  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (argc > 3 && inet_pton(AF_INET, argv[3], &address.sin_addr) != 1) {
    fprintf(stderr, "%s is not an address\n", argv[3]);
    return 2;
  }
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
    perror("listen");
    return 1;
  }
  epoll_fd = epoll_create1(0);
  struct connection listening = {.fd = listener}, timing = {0};
  watch(&listening, EPOLLIN, EPOLL_CTL_ADD);
  timing.fd = timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  watch(&timing, EPOLLIN, EPOLL_CTL_ADD);
  int ticking = 0;

  struct epoll_event events[kEvents];
  for (;;) {
    if (ticking != (streams > 0)) {
      ticking = streams > 0;
      long period = ticking ? 1000000 : 0;
      struct itimerspec every = {{0, period}, {0, period}};
      timerfd_settime(timer_fd, 0, &every, NULL);
    }
    int count = epoll_wait(epoll_fd, events, kEvents, -1);
    int due = 0;
    for (int i = 0; i < count; ++i) {
      struct connection* c = events[i].data.ptr;
      if (c == &listening) {
        accept_all(listener);
        continue;
      }
      if (c == &timing) {
        due = 1;  // last: it may end connections that have events of their own here
        continue;
      }
      if (events[i].events & EPOLLOUT && !flush(c)) continue;
      if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || c->out_left) continue;
      ssize_t size = recv(c->fd, buffer, kBuffer - 1, 0);
      if (size > 0) {
        take(c, buffer, (size_t)size);
      } else if (size == 0 || errno != EAGAIN) {
        end(c);
      }
    }
    if (due) send_events();
  }
}
