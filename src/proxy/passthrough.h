#pragma once
// Passthrough: a TLS connection that is not ended here (ssl-passthrough). Its bytes go to an endpoint of the host's
// service and back as they are.
//
// Each direction holds at most one block that the other side has not taken; meanwhile its source is not read. An end of
// one direction is passed on behind its last byte, and the other goes on. What breaks on one side is reset on the
// other.

#include <memory>
#include <string>

#include "base/block.h"
#include "event/loop.h"
#include "http/stream.h"
#include "net/stream.h"
#include "proxy/access_log.h"
#include "proxy/snapshot_ref.h"
#include "upstream/cluster.h"
#include "upstream/connector.h"

namespace sluice::proxy {

class Worker;

class Passthrough final : public event::Destroyable, private upstream::Connector::Owner {
 public:
  // Takes over a connection that is registered with the worker's loop and admitted; nothing of its TLS was read.
  // `host` is of `snapshot`.
  Passthrough(Worker& worker, net::Stream stream, http::ConnectionInfo info, SnapshotRef snapshot,
              const config::PassthroughHost& host);
  ~Passthrough() override;

  void start();
  // Cuts the connection off: the time for draining is over.
  void close_now();

 private:
  // One of the two connections, and the bytes that wait to be written to it.
  class Side final : public event::IoHandler {
   public:
    explicit Side(Passthrough& owner) : owner_(owner) {}
    net::Stream stream;
    Slice waiting;
    size_t read_size = kBlock;  // of the next read
    uint64_t received = 0;
    bool read_over = false, write_over = false;

   private:
    void on_io(uint32_t events) override { owner_.on_io(*this, events); }
    Passthrough& owner_;
  };
  class PumpTask final : public event::Task {
   public:
    explicit PumpTask(Passthrough& owner) : owner_(owner) {}

   private:
    void run_task() override { owner_.pump(); }
    Passthrough& owner_;
  };
  enum class Flow : uint8_t { kWaits, kGoesOn, kBroken };

  void choose_destination(const config::PassthroughHost& host);
  void begin_try();
  void end_try(const upstream::TryResult& result);
  void on_connected(upstream::Connector& connector, net::Stream stream) override;
  void on_connect_failed(upstream::Connector& connector, http::StreamError error, std::string detail) override;

  void on_io(Side& side, uint32_t events);
  void pump();
  // Moves what can be moved in one direction.
  Flow move(Side& from, Side& to);
  static bool reset_after_end(const Side& side);
  void on_idle_timer();
  void fail(ResponseFlag flag, std::string_view details, std::string transport = {});
  void finish(ResponseFlag flag, std::string_view details);
  void log(ResponseFlag flag, std::string_view details);

  Worker& worker_;
  http::ConnectionInfo info_;
  SnapshotRef snapshot_;  // while an endpoint is looked for
  const config::PassthroughHost* host_;
  Side client_{*this}, server_{*this};
  upstream::Connector* connector_ = nullptr;
  upstream::ClusterState* cluster_ = nullptr;
  upstream::EndpointState* endpoint_ = nullptr;  // of the try under way, or connected
  upstream::EndpointState* tried_[4] = {};
  uint8_t tried_count_ = 0;
  uint32_t cluster_slot_ = UINT32_MAX;
  std::string route_name_, cluster_name_, endpoint_text_, local_text_, transport_failure_;
  uint64_t started_us_;
  uint64_t started_ms_;
  uint64_t active_ms_ = 0;        // when a byte last moved
  uint64_t idle_timeout_ms_ = 0;  // 0: none
  bool finished_ = false;
  PumpTask pump_task_{*this};
  event::MemberTimer<Passthrough, &Passthrough::on_idle_timer> idle_timer_{this};
};

}  // namespace sluice::proxy
