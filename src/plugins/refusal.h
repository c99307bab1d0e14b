#pragma once
// The filter of routes that must not be served as they are configured: every request is answered 503. Not a plugin;
// the compiler puts it in place of what it could not understand.

#include "plugins/registry.h"

namespace sluice::plugins {

FactoryPointer refusal();

}  // namespace sluice::plugins
