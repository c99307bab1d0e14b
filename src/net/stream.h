#pragma once
// Stream: one connected byte stream (TCP or Unix socket, with or without TLS) on an edge-triggered loop. It owns the
// descriptor and remembers readiness: a handler notes the events of on_io() and then reads or writes until kAgain (or
// until it wants no more; readable() then still says that there may be more).

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/slice_queue.h"
#include "net/address.h"
#include "net/io.h"

namespace sluice::net {

class TlsSession;

class Stream {
 public:
  Stream();
  explicit Stream(int fd);
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  // Closes the descriptor at once, sending close_notify first if TLS and possible.
  void close();
  // Closes with RST, so that the peer learns that the message was cut short.
  void abort();
  // Gives the descriptor away.
  int release();

  void set_tls(std::unique_ptr<TlsSession> tls);
  TlsSession* tls() const { return tls_.get(); }

  // Takes in the events of on_io().
  void note(uint32_t epoll_events);
  // A read may bring something (data, end or error).
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  // The peer has ended its direction or the connection is broken; what was received before can still be read.
  bool peer_closed() const { return peer_closed_; }
  bool broken() const { return broken_; }

  IoResult read(char* data, size_t size);
  // Writes as much of the queue as goes, removing it. kOk: all or part was taken; kAgain: nothing was.
  IoResult write(SliceQueue& queue);
  IoResult write(const char* data, size_t size);
  // TLS may hold back encrypted output; true when some waits for the socket.
  bool has_pending_output() const;
  // Sends held-back output: kOk when none is left.
  IoResult flush();
  // TLS: says that we have sent everything. False: the socket is full, and that is pending output now.
  bool send_close_notify();
  // Ends our direction (FIN, after close_notify). If the socket is full, close_notify is pending output, and FIN
  // follows when flush() has sent it.
  void shutdown_write();

  // Text for logs: the last error of a read or write.
  std::string error_text() const;

 private:
  IoResult writev(const iovec* vectors, int count);

  int fd_ = -1;
  int last_errno_ = 0;
  bool readable_ = false;
  bool new_input_ = false;  // TLS: an edge came while input of an earlier recv() was still to be decrypted
  bool writable_ = false;
  bool peer_closed_ = false;
  bool broken_ = false;
  bool fin_waits_ = false;  // for close_notify to leave
  std::unique_ptr<TlsSession> tls_;
};

// Sets TCP_NODELAY; harmless on other sockets.
void set_no_delay(int fd);

}  // namespace sluice::net
