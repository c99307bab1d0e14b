// Latency at a constant rate. Requests are due at fixed times, whether the earlier ones have been answered or not, and
// a request's latency counts from the time it was due: a proxy that stalls is charged for every request it held up,
// also for those that could not be sent yet (no "coordinated omission").
//
// usage: rate PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS   (loopback, GET /)
//
// Prints one line of JSON: requests, errors, and p50, p99, p999, max in microseconds. Request number i goes to
// connection i modulo CONNECTIONS; the first second only warms up.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kBuffer = 16384, kEvents = 256 };
static const long long kSecond = 1000000000;

struct connection {
  int fd, busy;
  long long sent, due_count;  // requests sent, requests that were due so far
  long long index;            // of the one in flight
  size_t have;
  char input[4096];
};

static const char kRequest[] = "GET / HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
static struct connection* connections;
static long long connection_count, interval, start, errors, measured;
static float* latencies;

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long long)t.tv_sec * kSecond + t.tv_nsec;
}

static void send_next(struct connection* c) {
  c->index = c->sent++ * connection_count + (c - connections);
  c->busy = 1;
  if (send(c->fd, kRequest, sizeof kRequest - 1, MSG_NOSIGNAL) != sizeof kRequest - 1) {
    fprintf(stderr, "rate: cannot send\n");
    exit(1);
  }
}

// True if the input holds a whole response.
static int complete(struct connection* c) {
  char* end = memmem(c->input, c->have, "\r\n\r\n", 4);
  if (!end) return 0;
  *end = 0;
  char* length = strcasestr(c->input, "\r\ncontent-length:");
  *end = '\r';
  if (!length) {
    fprintf(stderr, "rate: a response without Content-Length\n");
    exit(1);
  }
  return c->have >= (size_t)(end + 4 - c->input) + strtoul(length + 17, NULL, 10);
}

static void receive(struct connection* c, long long warm) {
  ssize_t n = recv(c->fd, c->input + c->have, sizeof c->input - 1 - c->have, MSG_DONTWAIT);
  if (n <= 0) {
    fprintf(stderr, "rate: connection closed\n");
    exit(1);
  }
  c->have += (size_t)n;
  c->input[c->have] = 0;
  if (!complete(c)) return;
  if (strncmp(c->input, "HTTP/1.1 200", 12)) ++errors;
  c->have = 0;
  c->busy = 0;
  if (c->index >= warm) latencies[measured++] = (float)(now() - (start + c->index * interval)) / 1000;
  if (c->sent < c->due_count) send_next(c);
}

static int compare(const void* a, const void* b) {
  float x = *(const float*)a, y = *(const float*)b;
  return x < y ? -1 : x > y;
}

static double at(double share) {
  long long i = (long long)(share * (double)measured);
  return measured ? (double)latencies[i < measured ? i : measured - 1] : 0;
}

int main(int argc, char** argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: %s PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS\n", argv[0]);
    return 2;
  }
  prctl(PR_SET_TIMERSLACK, 1);
  connection_count = atoi(argv[2]);
  long long rate = atoi(argv[3]), total = (long long)(((double)rate) * (atof(argv[4]) + 1)), warm = rate;
  interval = kSecond / rate;
  connections = calloc((size_t)connection_count, sizeof *connections);
  latencies = calloc((size_t)total, sizeof *latencies);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int epoll_fd = epoll_create1(0), on = 1;
  for (long long i = 0; i < connection_count; ++i) {
    struct connection* c = &connections[i];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr*)&address, sizeof address) < 0) {
      perror("rate: connect");
      return 1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
  }
  start = now() + kSecond / 100;
  long long due = 0, finished_by = start + total * interval + 5 * kSecond;
  struct epoll_event events[kEvents];
  while (measured < total - warm) {
    long long time = now();
    if (time > finished_by) break;
    for (; due < total && start + due * interval <= time; ++due) {
      struct connection* c = &connections[due % connection_count];
      ++c->due_count;
      if (!c->busy) send_next(c);
    }
    long long wait = due < total ? start + due * interval - now() : kSecond / 10;
    if (wait < 0) wait = 0;
    struct timespec timeout = {wait / kSecond, wait % kSecond};
    int n = epoll_pwait2(epoll_fd, events, kEvents, &timeout, NULL);
    for (int i = 0; i < n; ++i) receive(events[i].data.ptr, warm);
  }
  errors += total - warm - measured;
  qsort(latencies, (size_t)measured, sizeof *latencies, compare);
  printf("{\"requests\": %lld, \"errors\": %lld, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
         measured, errors, at(0.5), at(0.99), at(0.999), at(1));
  return 0;
}
