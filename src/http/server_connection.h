#pragma once
// What a worker knows of the connections its listeners accepted, whatever their protocol.

#include "event/loop.h"

namespace sluice::http {

// One accepted connection. Registered with its owner from construction to on_closed(); destroyed at the end of that
// turn.
class ServerConnection : public event::Destroyable {
 public:
  class Owner {
   public:
    // The connection is closed and will be destroyed at the end of the turn.
    virtual void on_closed(ServerConnection& connection) = 0;
    // The process is draining: responses should say that the connection closes.
    virtual bool draining() const = 0;

   protected:
    ~Owner() = default;
  };

  // Graceful end: no new requests; closes when those under way are answered (at once when idle).
  virtual void drain() = 0;
  // Ends now; streams under way are reset.
  virtual void close_now() = 0;

  virtual bool is_tls() const = 0;

  // Links of the owner's list.
  ServerConnection* previous = nullptr;
  ServerConnection* next = nullptr;
};

}  // namespace sluice::http
