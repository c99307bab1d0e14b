#include "base/log.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace sluice::log {
namespace {

std::atomic<Level> current{Level::kInfo};

}  // namespace

void set_level(Level level) { current.store(level, std::memory_order_relaxed); }
Level level() { return current.load(std::memory_order_relaxed); }

std::string_view name(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "info";
}

bool parse_level(std::string_view text, Level* level) {
  for (Level candidate : {Level::kDebug, Level::kInfo, Level::kWarning, Level::kError}) {
    if (text != name(candidate)) continue;
    *level = candidate;
    return true;
  }
  return false;
}

void write(Level level, std::string_view component, std::string_view message) {
  if (level < log::level()) return;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  char time[40];
  const size_t n = strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(time + n, sizeof(time) - n, ".%03dZ", static_cast<int>(now.tv_nsec / 1'000'000));
  std::string line = time;
  line.append(" ").append(name(level)).append(7 - std::min<size_t>(7, name(level).size()), ' ').append(" ");
  line.append(component).append(": ");
  for (const char c : message) line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sluice::log
