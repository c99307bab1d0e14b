#pragma once
// The process's own log: one line per event to standard error, for operators. Not the access log.
//
//   2026-11-24T12:00:00.123Z info  config: 10 objects loaded
//
// Control thread and start-up only: a write may wait for the terminal. Workers have metrics and the access log instead.

#include <string>
#include <string_view>

namespace sluice::log {

enum class Level : unsigned char { kDebug, kInfo, kWarning, kError };

void set_level(Level level);
Level level();
// "debug", "info", "warning" or "error"; false if it is none of them.
bool parse_level(std::string_view text, Level* level);
std::string_view name(Level level);

void write(Level level, std::string_view component, std::string_view message);
inline void debug(std::string_view component, std::string_view message) { write(Level::kDebug, component, message); }
inline void info(std::string_view component, std::string_view message) { write(Level::kInfo, component, message); }
inline void warning(std::string_view component, std::string_view message) {
  write(Level::kWarning, component, message);
}
inline void error(std::string_view component, std::string_view message) { write(Level::kError, component, message); }

}  // namespace sluice::log
