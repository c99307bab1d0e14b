// The reader of many event streams at a time: counts the events, and checks that each stream's come in order with none
// missing (backend.c numbers them).
//
// usage: sse PORT STREAMS SECONDS   (loopback)
//
// Prints "started" when every stream has brought an event, and after SECONDS more "events N": those that came in
// between. Ends with status 1 and a message if a stream is refused, breaks or misses an event.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kBuffer = 65536, kEvents = 512 };

// Finds "id: N\n" in what comes, whatever the framing around it and however it is cut.
struct stream {
  int fd, matched;
  unsigned long long number, last;
  char status[13];  // "HTTP/1.1 200"
  size_t status_size;
};

static const char kMark[] = "\nid: ";

static void fail(const char* what) {
  fprintf(stderr, "sse: %s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned read_events(struct stream* s, const char* data, size_t size) {
  unsigned found = 0;
  while (size && s->status_size < 12) {
    s->status[s->status_size++] = *data++;
    --size;
    if (s->status_size == 12 && memcmp(s->status, "HTTP/1.1 200", 12)) fail("a stream was not answered with 200");
  }
  for (size_t i = 0; i < size; ++i) {
    char c = data[i];
    if (s->matched < 5) {
      s->matched = c == kMark[s->matched] ? s->matched + 1 : c == '\n';
      s->number = 0;
    } else if (c >= '0' && c <= '9') {
      s->number = s->number * 10 + (unsigned)(c - '0');
    } else {
      if (s->number != s->last + 1) fail("an event is missing or out of order");
      s->last = s->number;
      s->matched = c == '\n';
      ++found;
    }
  }
  return found;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s PORT STREAMS SECONDS\n", argv[0]);
    return 2;
  }
  unsigned count = (unsigned)atoi(argv[2]), begun = 0;
  double seconds = atof(argv[3]), end = 0;
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  static const char kRequest[] = "GET /sse HTTP/1.1\r\nHost: bench.example\r\nAccept: text/event-stream\r\n\r\n";
  struct stream* streams = calloc(count, sizeof *streams);
  int epoll_fd = epoll_create1(0);
  for (unsigned i = 0; i < count; ++i) {
    streams[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(streams[i].fd, (struct sockaddr*)&address, sizeof address) < 0) fail("cannot connect");
    if (send(streams[i].fd, kRequest, sizeof kRequest - 1, MSG_NOSIGNAL) < 0) fail("cannot send");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &streams[i]};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, streams[i].fd, &event);
  }
  static char buffer[kBuffer];
  unsigned long long events = 0;
  double give_up = now() + 20;
  struct epoll_event ready[kEvents];
  for (;;) {
    double time = now();
    if (end ? time >= end : time >= give_up) break;
    int n = epoll_wait(epoll_fd, ready, kEvents, 100);
    for (int i = 0; i < n; ++i) {
      struct stream* s = ready[i].data.ptr;
      ssize_t size = recv(s->fd, buffer, kBuffer, MSG_DONTWAIT);
      if (size <= 0) fail("a stream broke");
      int first = !s->last;
      events += read_events(s, buffer, (size_t)size);
      if (first && s->last && ++begun == count) {
        puts("started");
        fflush(stdout);
        end = now() + seconds;
        events = 0;
      }
    }
  }
  if (!end) fail("not every stream brought an event within 20 s");
  printf("events %llu\n", events);
  return 0;
}
