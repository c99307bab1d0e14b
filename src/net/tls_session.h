#pragma once
// TlsSession: TLS on one non-blocking stream socket, either side. It reads from and writes to the
// descriptor itself, with as few system calls as plain text would need: one recv() takes all
// records that have arrived, one send() carries all records of a writev(), up to 64 KiB.
//
// Memory: ciphertext lives in blocks borrowed from the thread's pool while bytes are in flight. A
// session with nothing half-read and nothing unsent holds no block and no buffer of AWS-LC's.
//
// Readiness: with edge-triggered polling the owner registers both edges and, on either, retries
// what it was waiting for; TLS may need to write in order to read and the other way round. As on a
// plain socket, kAgain from handshake() or read() means that recv() has said EAGAIN, kAgain from
// writev() or flush() that send() has, so the next edge will come. But bytes that are already here
// bring no edge: see has_buffered_input() and has_pending_output().
//
// Hostile peers: what may arrive without carrying data (key updates, tickets, empty records) is
// bounded, as are handshake messages and certificate chains; renegotiation and early data are
// refused.
//
// Threading: a session belongs to one thread. Nothing throws.

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/block.h"
#include "base/result.h"
#include "net/io.h"
#include "net/tls_context.h"

struct bio_st;
struct ssl_st;
struct ssl_session_st;

namespace sluice::net {

// Sessions that a client may resume. Belongs to one thread (a worker keeps one per cluster);
// connections share it.
class TlsSessionCache {
 public:
  // Keeps at most `capacity` sessions, the newest.
  explicit TlsSessionCache(size_t capacity = 4) : capacity_(capacity) {}
  ~TlsSessionCache();
  TlsSessionCache(const TlsSessionCache&) = delete;
  TlsSessionCache& operator=(const TlsSessionCache&) = delete;

  size_t size() const { return entries_.size(); }

 private:
  friend class TlsSession;
  friend struct TlsCallbacks;
  struct Entry {
    std::string key;
    ssl_session_st* session;
  };
  // Takes over the reference.
  void put(std::string key, ssl_session_st* session);
  // Null if there is none; the caller gets the reference.
  ssl_session_st* take(std::string_view key);

  size_t capacity_;
  std::vector<Entry> entries_;  // oldest first
};

// A certificate that the peer has proved to own.
struct TlsPeerCertificate {
  std::string problem;  // why it does not verify; empty: it does. Only a server that takes such ones has them.
  std::string issuer;   // as `subject`
  std::string sha256;   // of its DER form, lower-case hex
  std::string subject;  // RFC 2253: "CN=client,O=Example"
  std::string serial;   // hex
  std::vector<std::string> uri_sans;
  std::vector<std::string> dns_sans;
  std::string pem;
  std::string chain_pem;  // the whole chain as sent, leaf first
};

// What a single connection may set differently from its client context.
struct TlsConnectOptions {
  std::string_view sni;                    // empty: the context's
  std::string_view verify_name;            // empty: the context's, else `sni`
  std::shared_ptr<TlsSessionCache> cache;  // null: no resumption
};

class TlsSession {
 public:
  // The socket is connected and non-blocking, stays the caller's, and outlives the session.
  // `selector` is used until the handshake is done and must live until then. Null only if memory is
  // exhausted.
  static std::unique_ptr<TlsSession> accept(int fd, TlsServerSelector& selector);
  static std::unique_ptr<TlsSession> connect(int fd, std::shared_ptr<const TlsContext> context,
                                             const TlsConnectOptions& options = {});
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Drives the handshake. kOk: done (`bytes` is 0; output may still be pending). kAgain: call again
  // at the next edge. kEof: the peer went away. kError: failed, an alert has been sent;
  // error_text() says why.
  IoResult handshake();
  bool handshake_done() const { return established_; }

  // Decrypts up to n bytes into `buffer`. kEof: the peer has closed; truncated() tells if it did so
  // without close_notify, when the end of a message that is delimited by the connection's end must
  // not be believed.
  IoResult read(char* buffer, size_t n);

  // Encrypts bytes and sends them. kOk: `bytes` of them are taken, perhaps fewer than given,
  // perhaps still in the output block (has_pending_output()); the caller may forget them. kAgain:
  // nothing was taken, because earlier output cannot leave. A retry may come with other buffers and
  // other bytes.
  IoResult writev(const iovec* iov, int count);

  // Ciphertext that send() did not take. At most about 64 KiB (plus a handshake flight).
  bool has_pending_output() const { return out_begin_ != out_end_; }
  // kOk: nothing is pending any more.
  IoResult flush();

  // Bytes wait in the session, decrypted or not: read again without waiting for an edge. The bytes
  // may turn out to be the beginning of a record; then read() goes on to recv() and says kAgain.
  bool has_buffered_input() const;
  // Decrypted bytes that read() returns without further work.
  size_t pending_input() const;
  // False if the last recv() got less than it had room for, so the socket was empty. A caller that
  // has not been told of the peer's FIN (EPOLLRDHUP) may then wait for the next edge as soon as
  // has_buffered_input() is false, and save the recv() that would say EAGAIN.
  bool socket_may_have_more() const { return socket_may_have_more_; }

  // Sends close_notify, best effort. kOk: it has left. kAgain: it is pending, flush() sends it. The
  // peer may go on sending and read() still works. Before the end of the handshake there is nothing
  // to send.
  IoStatus shutdown();

  // The peer ended the connection without saying so in TLS.
  bool truncated() const { return truncated_; }
  // Why the last kError (or a kEof in the handshake) came, for logs and `transport_failure_reason`.
  // Never a secret.
  std::string error_text() const { return error_ ? *error_ : std::string(); }

  // Valid when the handshake is done; borrowed from the session.
  std::string_view alpn() const;     // empty: none was agreed
  std::string_view sni() const;      // what the client asked for; lower case on the server
  std::string_view version() const;  // "TLSv1.2", "TLSv1.3"
  std::string_view cipher() const;   // as IANA names it: "TLS_AES_128_GCM_SHA256"
  std::string_view group() const;    // of the key exchange: "X25519"
  bool resumed() const;
  // Costs a parse at each call. Nothing if the peer sent no certificate, or it was not verified (but see kUnverified).
  std::optional<TlsPeerCertificate> peer_certificate() const;
  // Null on a server until the client's SNI has been seen.
  const std::shared_ptr<const TlsContext>& context() const { return context_; }

 private:
  friend struct TlsCallbacks;

  explicit TlsSession(int fd) : fd_(fd) {}
  bool attach(ssl_st* ssl);
  bool configure_client(const TlsConnectOptions& options);
  bool select(std::string_view sni);
  bool apply_context();

  // The transport that AWS-LC sees: a BIO over the blocks.
  int transport_read(char* out, size_t n);
  int transport_write(const char* bytes, size_t n);
  bool receive();
  bool input_broken() const { return socket_errno_ != 0 || flooded_; }
  void release_input();
  void reserve_output(size_t n, size_t preferred);
  size_t output_room() const;
  IoStatus send_output();

  IoResult fail(int ssl_result, const char* during);
  IoResult broken(std::string text);
  std::string failure_text(const char* during) const;
  std::string verification_text(const char* during) const;

  ssl_st* ssl_ = nullptr;
  std::shared_ptr<const TlsContext> context_;
  TlsServerSelector* selector_ = nullptr;
  std::shared_ptr<TlsSessionCache> cache_;
  std::unique_ptr<std::string> cache_key_;
  // What the server's certificate must be for; until that is settled.
  std::unique_ptr<std::string> expected_name_;
  std::unique_ptr<std::string> error_;
  std::unique_ptr<std::string> lower_sni_;  // null if what the client sent is lower case already

  BlockRef in_;   // ciphertext received and not yet taken by AWS-LC
  BlockRef out_;  // ciphertext not yet sent
  uint32_t in_begin_ = 0, in_end_ = 0;
  uint32_t out_begin_ = 0, out_end_ = 0;

  int fd_;
  int socket_errno_ = 0;
  uint32_t fruitless_ = 0;  // bytes received since plain bytes came out
  bool established_ = false;
  bool failed_ = false;
  bool got_fin_ = false;
  bool flooded_ = false;
  bool eof_ = false;
  bool truncated_ = false;
  bool close_sent_ = false;
  bool may_receive_ = true;  // false: AWS-LC gets what is buffered, no recv()
  bool socket_may_have_more_ = true;
  bool bulk_input_ = false;  // the last recv() filled its block: take a larger one
};

}  // namespace sluice::net
