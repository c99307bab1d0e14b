#pragma once
// CallOut: a request of a filter's own to a cluster, over the worker's pools, collected whole.

#include "config/snapshot.h"
#include "filter/call.h"

namespace sluice::proxy {

class Worker;

// Starts a call; `receiver` is told later, and stays attached until then (or until it cancels).
void start_call_out(Worker& worker, const config::Snapshot& snapshot, const filter::HttpCall& call,
                    filter::CallReceiver& receiver);

// Starts a call whose answer nobody wants. Dropped if too many of them are under way on this worker.
void send_call_out(Worker& worker, const config::Snapshot& snapshot, const filter::HttpCall& call);

}  // namespace sluice::proxy
