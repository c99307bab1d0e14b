#include "net/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "net/address.h"
#include "net/tls_callbacks.h"
#include "net/tls_pem.h"

namespace sluice::net {
namespace {

constexpr size_t kMaxRecord = SSL3_RT_MAX_PLAIN_LENGTH;
// Header, tag, explicit nonce and content type of a record, and some more: the output block grows
// if a cipher needs it.
constexpr size_t kRecordOverhead = 64;
// With less room than this left in the output block, sending first is better than a tiny record.
constexpr size_t kMinRecord = 1024;

// Ciphertext that may come without any plain bytes in it. A full receive block and a record always
// carry some; handshakes have their certificates. AWS-LC itself does not limit key updates, each of
// which is a few bytes for the peer and a key derivation for us, and goes on reading as long as
// they come.
constexpr size_t kMaxFruitless = kLargeBlock + SSL3_RT_MAX_ENCRYPTED_LENGTH;
constexpr size_t kMaxFruitlessHandshake = kMaxFruitless + kMaxPeerChain;

TlsSession* session_of(BIO* bio) { return static_cast<TlsSession*>(BIO_get_data(bio)); }

std::string_view or_empty(const char* text) { return text ? std::string_view(text) : std::string_view(); }

// Walks over the bytes of an iovec list in pieces that each become one record.
class Gather {
 public:
  Gather(const iovec* iov, int count) : iov_(iov), end_(iov + count) { skip_empty(); }

  // The next at most `limit` bytes, in place if one element holds them, else copied to `scratch`
  // (room for `limit`).
  std::string_view next(size_t limit, char* scratch) {
    size_t here = iov_->iov_len - offset_;
    bool last = iov_ + 1 == end_;
    if (here >= limit || last) return {static_cast<const char*>(iov_->iov_base) + offset_, std::min(here, limit)};
    size_t filled = 0;
    size_t offset = offset_;
    for (const iovec* element = iov_; element != end_ && filled < limit; ++element, offset = 0) {
      size_t n = std::min(element->iov_len - offset, limit - filled);
      if (n) std::memcpy(scratch + filled, static_cast<const char*>(element->iov_base) + offset, n);
      filled += n;
    }
    return {scratch, filled};
  }

  void advance(size_t n) {
    offset_ += n;
    skip_empty();
  }

 private:
  void skip_empty() {
    while (iov_ != end_ && offset_ >= iov_->iov_len) {
      offset_ -= iov_->iov_len;
      ++iov_;
    }
  }

  const iovec* iov_;
  const iovec* end_;
  size_t offset_ = 0;
};

size_t total_size(const iovec* iov, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) total += iov[i].iov_len;
  return total;
}

bool is_ip(std::string_view name) { return Address::parse_ip(name).has_value(); }

}  // namespace

// ---- client session cache

TlsSessionCache::~TlsSessionCache() {
  for (Entry& entry : entries_) SSL_SESSION_free(entry.session);
}

void TlsSessionCache::put(std::string key, SSL_SESSION* session) {
  if (capacity_ == 0) return SSL_SESSION_free(session);
  if (entries_.size() >= capacity_) {
    SSL_SESSION_free(entries_.front().session);
    entries_.erase(entries_.begin());
  }
  entries_.push_back({std::move(key), session});
}

SSL_SESSION* TlsSessionCache::take(std::string_view key) {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    if (entry->key != key) continue;
    SSL_SESSION* session = entry->session;
    if (!SSL_SESSION_should_be_single_use(session)) {
      SSL_SESSION_up_ref(session);
    } else {
      entries_.erase(std::next(entry).base());
    }
    return session;
  }
  return nullptr;
}

// ---- creation

bool TlsSession::attach(SSL* ssl) {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "sluice blocks");
    BIO_meth_set_read(m, [](BIO* bio, char* out, int n) {
      BIO_clear_retry_flags(bio);
      int moved = session_of(bio)->transport_read(out, static_cast<size_t>(n));
      if (moved < 0 && !session_of(bio)->input_broken()) BIO_set_retry_read(bio);
      return moved;
    });
    BIO_meth_set_write(m, [](BIO* bio, const char* bytes, int n) {
      BIO_clear_retry_flags(bio);
      return session_of(bio)->transport_write(bytes, static_cast<size_t>(n));
    });
    // Flushing is ours to decide: one send() at the end of an operation.
    BIO_meth_set_ctrl(m, [](BIO*, int command, long, void*) -> long { return command == BIO_CTRL_FLUSH; });
    return m;
  }();

  ssl_ = ssl;
  if (!ssl_) return false;
  BIO* bio = BIO_new(method);
  if (!bio) return false;
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_shed_handshake_config(ssl_, 1);
  return true;
}

std::unique_ptr<TlsSession> TlsSession::accept(int fd, TlsServerSelector& selector) {
  SSL_CTX* start = TlsCallbacks::server_start();
  std::unique_ptr<TlsSession> session(new TlsSession(fd));
  if (!start || !session->attach(SSL_new(start))) return nullptr;
  session->selector_ = &selector;
  SSL_set_accept_state(session->ssl_);
  return session;
}

std::unique_ptr<TlsSession> TlsSession::connect(int fd, std::shared_ptr<const TlsContext> context,
                                                const TlsConnectOptions& options) {
  if (!context || context->is_server_) return nullptr;
  std::unique_ptr<TlsSession> session(new TlsSession(fd));
  if (!session->attach(SSL_new(context->ssl_ctx_))) return nullptr;
  session->context_ = std::move(context);
  SSL_set_connect_state(session->ssl_);
  if (!session->configure_client(options)) return nullptr;
  return session;
}

bool TlsSession::configure_client(const TlsConnectOptions& options) {
  std::string sni(options.sni.empty() ? context_->sni_ : options.sni);
  std::string verify_name(!options.verify_name.empty()      ? options.verify_name
                          : !context_->verify_name_.empty() ? context_->verify_name_
                                                            : sni);
  if (!sni.empty() && !is_ip(sni) && !SSL_set_tlsext_host_name(ssl_, sni.c_str())) return false;
  SSL_set_verify(ssl_, context_->verify_mode_, nullptr);
  if (context_->verify_mode_ != SSL_VERIFY_NONE && !verify_name.empty()) {
    expected_name_ = std::make_unique<std::string>(verify_name);
    X509_VERIFY_PARAM* param = SSL_get0_param(ssl_);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_ip(verify_name) ? !X509_VERIFY_PARAM_set1_ip_asc(param, verify_name.c_str())
                           : !X509_VERIFY_PARAM_set1_host(param, verify_name.data(), verify_name.size())) {
      return false;
    }
  }
  if (!options.cache) return true;
  cache_ = options.cache;
  // A resumed session is not verified again: it must have been verified against the same.
  cache_key_ = std::make_unique<std::string>(context_->fingerprint_ + sni + '\0' + verify_name);
  bssl::UniquePtr<SSL_SESSION> cached(cache_->take(*cache_key_));
  return !cached || SSL_set_session(ssl_, cached.get());
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

bool TlsSession::select(std::string_view sni) {
  std::string lower(sni);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    // No host name has such bytes; they must not reach a log either.
    if (c <= ' ' || c > '~') return true;
  }
  if (lower.ends_with('.')) lower.pop_back();
  if (lower != sni) lower_sni_ = std::make_unique<std::string>(lower);
  context_ = selector_->select(lower);
  if (context_ && !context_->is_server_) context_ = nullptr;
  // Without a context, check_selected() refuses with the right alert.
  return !context_ || apply_context();
}

// What SSL_set_SSL_CTX() does not take over from the context.
bool TlsSession::apply_context() {
  const TlsContext& context = *context_;
  if (!SSL_set_SSL_CTX(ssl_, context.ssl_ctx_)) return false;
  // With the call-back the result is kept, and told, but ends nothing.
  SSL_set_verify(ssl_, context.verify_mode_,
                 context.takes_unverified_ ? [](int, X509_STORE_CTX*) { return 1; } : nullptr);
  if (context.client_verify_depth_ >= 0) SSL_set_verify_depth(ssl_, context.client_verify_depth_);
  if (!context.ticket_keys_) SSL_set_options(ssl_, SSL_OP_NO_TICKET);
  if (context.client_prefers_ciphers_) SSL_clear_options(ssl_, SSL_OP_CIPHER_SERVER_PREFERENCE);
  return SSL_set_min_proto_version(ssl_, context.min_version_) &&
         SSL_set_max_proto_version(ssl_, context.max_version_) &&
         (context.ciphers_tls12_.empty() || SSL_set_strict_cipher_list(ssl_, context.ciphers_tls12_.c_str())) &&
         (context.groups_.empty() || SSL_set1_groups_list(ssl_, context.groups_.c_str()));
}

// ---- transport

int TlsSession::transport_read(char* out, size_t n) {
  if (in_begin_ == in_end_ && !receive()) return got_fin_ ? 0 : -1;
  size_t moved = std::min<size_t>(n, in_end_ - in_begin_);
  std::memcpy(out, in_->data() + in_begin_, moved);
  in_begin_ += static_cast<uint32_t>(moved);
  return static_cast<int>(moved);
}

// Fills the input block. False: nothing came (got_fin_ and socket_errno_ tell why).
bool TlsSession::receive() {
  if (got_fin_ || input_broken() || !may_receive_) return false;
  if (fruitless_ > (established_ ? kMaxFruitless : kMaxFruitlessHandshake)) {
    flooded_ = true;
    return false;
  }
  if (!in_ || in_->capacity < (bulk_input_ ? kLargeBlock : kBlock)) {
    in_ = BlockRef(acquire_block(bulk_input_ ? kLargeBlock : kBlock));
  }
  ssize_t got;
  do {
    got = recv(fd_, in_->data(), in_->capacity, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  in_begin_ = 0;
  in_end_ = got > 0 ? static_cast<uint32_t>(got) : 0;
  socket_may_have_more_ = in_end_ == in_->capacity;
  if (got > 0) {
    fruitless_ += in_end_;
    if (socket_may_have_more_) bulk_input_ = true;
    if (static_cast<size_t>(got) < kSmallBlock) bulk_input_ = false;
    return true;
  }
  if (got == 0) {
    got_fin_ = true;
  } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
    socket_errno_ = errno;
  }
  return false;
}

void TlsSession::release_input() {
  if (in_begin_ != in_end_) return;
  in_.reset();
  in_begin_ = in_end_ = 0;
}

int TlsSession::transport_write(const char* bytes, size_t n) {
  reserve_output(n, kSmallBlock);
  std::memcpy(out_->data() + out_end_, bytes, n);
  out_end_ += static_cast<uint32_t>(n);
  return static_cast<int>(n);
}

// Makes room for n bytes behind what is pending.
void TlsSession::reserve_output(size_t n, size_t preferred) {
  if (out_ && out_->capacity - out_end_ >= n) return;
  size_t pending = out_end_ - out_begin_;
  BlockRef larger(acquire_block(std::max(pending + n, preferred)));
  if (pending) std::memcpy(larger->data(), out_->data() + out_begin_, pending);
  out_ = std::move(larger);
  out_begin_ = 0;
  out_end_ = static_cast<uint32_t>(pending);
}

// Plain bytes that the next record may have so that it still fits into the output block.
size_t TlsSession::output_room() const {
  size_t room = out_->capacity - out_end_;
  return room <= kRecordOverhead ? 0 : std::min(room - kRecordOverhead, kMaxRecord);
}

IoStatus TlsSession::send_output() {
  while (out_begin_ != out_end_) {
    ssize_t sent = send(fd_, out_->data() + out_begin_, out_end_ - out_begin_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      out_begin_ += static_cast<uint32_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return IoStatus::kAgain;
    } else if (errno != EINTR) {
      socket_errno_ = errno;
      broken(std::string("send: ") + std::strerror(errno));
      return IoStatus::kError;
    }
  }
  out_.reset();
  out_begin_ = out_end_ = 0;
  return IoStatus::kOk;
}

// ---- operations

IoResult TlsSession::handshake() {
  if (established_) return {IoStatus::kOk};
  if (failed_) return {eof_ ? IoStatus::kEof : IoStatus::kError};
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_);
  if (result != 1) {
    IoResult outcome = fail(result, "handshake");
    release_input();
    // Our half of the handshake, or the alert that tells the peer why we refuse.
    if (send_output() == IoStatus::kError) outcome.status = IoStatus::kError;
    return outcome;
  }
  established_ = true;
  fruitless_ = 0;
  selector_ = nullptr;
  expected_name_.reset();
  release_input();
  return {send_output() == IoStatus::kError ? IoStatus::kError : IoStatus::kOk};
}

IoResult TlsSession::read(char* buffer, size_t n) {
  if (!established_) {
    if (IoResult shaken = handshake(); shaken.status != IoStatus::kOk) return shaken;
  }
  if (eof_) return {IoStatus::kEof};
  if (failed_) return {IoStatus::kError};
  ERR_clear_error();
  size_t total = 0;
  int result = 1;
  while (total < n && result > 0 && (total == 0 || has_buffered_input())) {
    may_receive_ = total == 0;
    result = SSL_read(ssl_, buffer + total, static_cast<int>(std::min<size_t>(n - total, INT32_MAX)));
    if (result <= 0) continue;
    total += static_cast<size_t>(result);
    fruitless_ = 0;
  }
  may_receive_ = true;
  // A failure after some bytes shows again at the next call.
  IoResult outcome = total > 0 || n == 0 ? IoResult{IoStatus::kOk, total} : fail(result, "read");
  release_input();
  // An alert, or the answer to a key update.
  if (has_pending_output() && send_output() == IoStatus::kError && total == 0) return {IoStatus::kError};
  return outcome;
}

IoResult TlsSession::writev(const iovec* iov, int count) {
  if (!established_) {
    if (IoResult shaken = handshake(); shaken.status != IoStatus::kOk) return shaken;
  }
  if (failed_) return {IoStatus::kError};
  if (close_sent_) return broken("write after close_notify");
  if (has_pending_output()) {
    if (IoStatus sent = send_output(); sent != IoStatus::kOk) return {sent};
  }

  const size_t total = total_size(iov, count);
  Gather gather(iov, count);
  char scratch[kMaxRecord];
  size_t taken = 0;
  ERR_clear_error();
  while (taken < total) {
    size_t records = (total - taken) / kMaxRecord + 1;
    if (!out_) reserve_output(0, std::min(total - taken + records * kRecordOverhead, kLargeBlock));
    if (output_room() < std::min(total - taken, kMinRecord)) {
      IoStatus sent = send_output();
      if (sent == IoStatus::kError) return {sent};
      if (sent == IoStatus::kAgain) break;
      continue;
    }
    std::string_view record = gather.next(output_room(), scratch);
    int written = SSL_write(ssl_, record.data(), static_cast<int>(record.size()));
    if (written <= 0) {
      if (taken > 0) break;
      IoResult outcome = fail(written, "write");
      send_output();
      return outcome;
    }
    gather.advance(static_cast<size_t>(written));
    taken += static_cast<size_t>(written);
  }
  if (has_pending_output() && send_output() == IoStatus::kError) return {IoStatus::kError};
  return {IoStatus::kOk, taken};
}

IoResult TlsSession::flush() {
  if (socket_errno_ != 0) return {IoStatus::kError};
  return {send_output()};
}

IoStatus TlsSession::shutdown() {
  if (!established_ || failed_ || close_sent_) return failed_ ? IoStatus::kError : flush().status;
  close_sent_ = true;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
  return send_output();
}

bool TlsSession::has_buffered_input() const { return in_begin_ != in_end_ || SSL_pending(ssl_) > 0; }

size_t TlsSession::pending_input() const { return static_cast<size_t>(SSL_pending(ssl_)); }

// ---- failure

IoResult TlsSession::broken(std::string text) {
  failed_ = true;
  error_ = std::make_unique<std::string>(std::move(text));
  in_.reset();
  in_begin_ = in_end_ = 0;
  return {eof_ ? IoStatus::kEof : IoStatus::kError};
}

// What a non-positive result of AWS-LC means to the caller.
IoResult TlsSession::fail(int ssl_result, const char* during) {
  int code = SSL_get_error(ssl_, ssl_result);
  if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) return {IoStatus::kAgain};
  if (code == SSL_ERROR_ZERO_RETURN) {
    eof_ = true;
    return {IoStatus::kEof};
  }
  if (got_fin_ && in_begin_ == in_end_) {
    ERR_clear_error();
    eof_ = truncated_ = true;
    if (established_) return {IoStatus::kEof};
    return broken("the peer closed the connection during the TLS handshake");
  }
  IoResult outcome = broken(failure_text(during));
  ERR_clear_error();
  return outcome;
}

std::string TlsSession::failure_text(const char* during) const {
  std::string prefix = std::string("TLS ") + during + ": ";
  if (socket_errno_ != 0) return prefix + std::strerror(socket_errno_);
  if (flooded_) return prefix + "the peer floods the connection with records that carry no data";
  if (selector_ && !context_ && lower_sni_) return prefix + "no certificate for the name \"" + *lower_sni_ + "\"";
  if (selector_ && !context_ && SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name)) {
    return prefix + "no certificate for the name the client asked for";
  }
  uint32_t error = ERR_peek_error();
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    return verification_text(during);
  }
  return prefix + take_tls_error("protocol error");
}

std::string TlsSession::verification_text(const char* during) const {
  long reason = SSL_get_verify_result(ssl_);
  std::string text = std::string("TLS ") + during + ": certificate verify failed: ";
  text += X509_verify_cert_error_string(reason);
  if (reason != X509_V_ERR_HOSTNAME_MISMATCH && reason != X509_V_ERR_IP_ADDRESS_MISMATCH) return text;
  text += " (expected \"" + (expected_name_ ? *expected_name_ : std::string()) + "\"";
  bssl::UniquePtr<X509> leaf(SSL_get_peer_certificate(ssl_));
  std::vector<std::string> names;
  if (leaf) names = subject_alt_names(leaf.get(), SanType::kDns);
  for (size_t i = 0; i < names.size() && i < 5; ++i) text += (i ? ", " : "; it is for ") + names[i];
  return text + ")";
}

// ---- facts

std::string_view TlsSession::alpn() const {
  const uint8_t* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

std::string_view TlsSession::sni() const {
  return lower_sni_ ? std::string_view(*lower_sni_) : or_empty(SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name));
}

std::string_view TlsSession::version() const { return or_empty(SSL_get_version(ssl_)); }

std::string_view TlsSession::cipher() const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_);
  return cipher ? or_empty(SSL_CIPHER_standard_name(cipher)) : std::string_view();
}

std::string_view TlsSession::group() const { return or_empty(SSL_get_group_name(SSL_get_group_id(ssl_))); }

bool TlsSession::resumed() const { return SSL_session_reused(ssl_); }

}  // namespace sluice::net
