#include "plugins/fault/config.h"

namespace sluice::plugins::fault {
namespace {

std::optional<Problem> check_abort(const Abort& abort) {
  if (abort.status && abort.grpc_status) return Problem{{}, "only one of status and grpc_status can be given"};
  if (abort.percentage > 0 && abort.percentage < 100 && !abort.given()) {
    return Problem{{}, "one of status and grpc_status is required"};
  }
  return std::nullopt;
}

std::optional<Problem> check(const Config& config) {
  if (!config.delay.fixed_ms && !config.abort.given()) {
    return Problem{{}, "nothing to do: give delay.fixed_ms, abort.status or abort.grpc_status"};
  }
  if (config.header.name.empty() && !config.header.value.empty()) return Problem{"header.name", "is required"};
  return std::nullopt;
}

const Schema<Delay>& delay_schema() {
  static const Schema<Delay> kSchema =
      Schema<Delay>()
          .integer("fixed_ms", &Delay::fixed_ms, 1, 3'600'000, "Milliseconds that a request waits before it goes on.")
          .number("percentage", &Delay::percentage, 0, 100, "Share of the requests that wait.");
  return kSchema;
}

const Schema<Abort>& abort_schema() {
  static const Schema<Abort> kSchema =
      Schema<Abort>()
          .integer("status", &Abort::status, 200, 599, "HTTP status of the answer.")
          .integer("grpc_status", &Abort::grpc_status, 1, 16,
                   "gRPC status of the answer; a request that is no gRPC call gets the HTTP status "
                   "that fits it.")
          .number("percentage", &Abort::percentage, 0, 100, "Share of the requests that are answered so.")
          .check(check_abort);
  return kSchema;
}

const Schema<Header>& header_schema() {
  static const Schema<Header> kSchema =
      Schema<Header>()
          .text("name", &Header::name, "Name of the field.", check_header_name)
          .text("value", &Header::value, "Its exact value; any value if empty.", check_header_value);
  return kSchema;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .object("delay", &Config::delay, delay_schema(), "Delays requests.")
          .object("abort", &Config::abort, abort_schema(),
                  "Answers requests instead of the upstream; after the delay, "
                  "if a request gets both.")
          .object("header", &Config::header, header_schema(),
                  "Only requests with this header field are subject to faults; all if it is not given.")
          .integer("max_active", &Config::max_active, 1, 1'000'000,
                   "Requests that may wait in a delay at the same time, on all workers together; "
                   "others pass without fault.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::fault
