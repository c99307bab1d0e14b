#pragma once
// TLS, both sides, on AWS-LC: contexts are made once from configuration, sessions are one per
// connection.

#include "net/tls_context.h"
#include "net/tls_session.h"
