#pragma once
// The canonical JSON of a snapshot: everything that decides what happens to a request, in a fixed
// order, so that two snapshots that behave the same have the same text whatever way they were made.
// Slot numbers and the version are not part of it. Secrets are not in it: certificates are told by
// the Secret's name and the leaf's end of validity.

#include <string>

#include "compile/json_writer.h"
#include "config/snapshot.h"

namespace sluice::compile {

struct DumpOptions {
  bool endpoints = true;
};

std::string dump(const config::Snapshot& snapshot, const DumpOptions& options = {});

// Parts of it, for admin.
void write_cluster(JsonWriter& out, const config::Cluster& cluster, bool endpoints);
void write_route(JsonWriter& out, const config::Snapshot& snapshot, const config::Route& route);

const char* name_of(config::LoadBalancing balancing);
const char* name_of(config::PathMatch::Kind kind);
// "header x-a = \"b\""
std::string describe(const config::ValueMatch& match);
// "Prefix /a"
std::string describe(const config::PathMatch& match);

}  // namespace sluice::compile
