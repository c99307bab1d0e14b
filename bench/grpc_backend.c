// A gRPC server over HTTP/2 in clear that answers every unary call with the message it got and "grpc-status: 0" in the
// trailers. On libnghttp2 alone, so that it is the same for every proxy in front of it.
//
// usage: grpc_backend PORT   (loopback)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kEvents = 256, kMessage = 1024 };

struct stream {
  uint8_t message[kMessage];
  size_t size, sent;
};

struct connection {
  int fd;
  nghttp2_session* session;
  const uint8_t* out;  // what the socket did not take
  size_t out_left;
};

static int epoll_fd;

#define FIELD(name, value)                                                   \
  {(uint8_t*)(name), (uint8_t*)(value), sizeof(name) - 1, sizeof(value) - 1, \
   NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}

static const nghttp2_nv kHead[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc")};
static const nghttp2_nv kTrailers[] = {FIELD("grpc-status", "0")};

static ssize_t read_message(nghttp2_session* session, int32_t id, uint8_t* to, size_t room, uint32_t* flags,
                            nghttp2_data_source* source, void* user) {
  struct stream* s = source->ptr;
  size_t n = s->size - s->sent < room ? s->size - s->sent : room;
  memcpy(to, s->message + s->sent, n);
  s->sent += n;
  if (s->sent == s->size) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(session, id, kTrailers, 1);
  }
  return (ssize_t)n;
}

static int on_begin(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, calloc(1, sizeof(struct stream)));
}

static int on_data(nghttp2_session* session, uint8_t flags, int32_t id, const uint8_t* data, size_t size, void* user) {
  struct stream* s = nghttp2_session_get_stream_user_data(session, id);
  if (!s || s->size + size > kMessage) return nghttp2_submit_rst_stream(session, 0, id, NGHTTP2_INTERNAL_ERROR);
  memcpy(s->message + s->size, data, size);
  s->size += size;
  return 0;
}

static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
  if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
  struct stream* s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (!s) return 0;
  nghttp2_data_provider provider = {.source.ptr = s, .read_callback = read_message};
  return nghttp2_submit_response(session, frame->hd.stream_id, kHead, 2, &provider);
}

static int on_stream_close(nghttp2_session* session, int32_t id, uint32_t error, void* user) {
  free(nghttp2_session_get_stream_user_data(session, id));
  return 0;
}

static void watch(struct connection* c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void end(struct connection* c) {
  close(c->fd);
  nghttp2_session_del(c->session);
  free(c);
}

// Gathers frames so that one send carries many. Returns 0 if the connection has ended.
static int flush(struct connection* c) {
  static uint8_t gathered[65536];
  for (;;) {
    size_t size = 0;
    while (size < sizeof gathered / 2) {
      if (!c->out_left) {
        ssize_t n = nghttp2_session_mem_send(c->session, &c->out);
        if (n < 0) return end(c), 0;
        if (n == 0) break;
        c->out_left = (size_t)n;
      }
      size_t n = c->out_left < sizeof gathered - size ? c->out_left : sizeof gathered - size;
      memcpy(gathered + size, c->out, n);
      size += n;
      c->out += n;
      c->out_left -= n;
    }
    if (!size) break;
    for (size_t sent = 0; sent < size;) {
      ssize_t n = send(c->fd, gathered + sent, size - sent, MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return end(c), 0;
      if (n > 0) sent += (size_t)n;  // a full socket buffer is waited for: messages are small
    }
  }
  if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session)) return end(c), 0;
  return 1;
}

static void accept_one(int listener, nghttp2_session_callbacks* callbacks) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct connection* c = calloc(1, sizeof *c);
  c->fd = fd;
  nghttp2_session_server_new(&c->session, callbacks, c);
  nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000}};
  nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 1);
  watch(c, EPOLLIN, EPOLL_CTL_ADD);
  flush(c);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0 || listen(listener, 4096) < 0) {
    perror("listen");
    return 1;
  }
  nghttp2_session_callbacks* callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  epoll_fd = epoll_create1(0);
  struct connection listening = {.fd = listener};
  watch(&listening, EPOLLIN, EPOLL_CTL_ADD);
  struct epoll_event events[kEvents];
  static uint8_t buffer[65536];
  for (;;) {
    int count = epoll_wait(epoll_fd, events, kEvents, -1);
    for (int i = 0; i < count; ++i) {
      struct connection* c = events[i].data.ptr;
      if (c == &listening) {
        accept_one(listener, callbacks);
        continue;
      }
      ssize_t size = recv(c->fd, buffer, sizeof buffer, 0);
      if (size < 0 && errno == EAGAIN) continue;
      if (size <= 0 || nghttp2_session_mem_recv(c->session, buffer, (size_t)size) < 0) {
        end(c);
        continue;
      }
      flush(c);
    }
  }
}
