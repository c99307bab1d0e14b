#pragma once
// Header field names the gateway knows. Parsers resolve a name to its id once (find_header_id); everything after that
// compares integers. Names are lower case, as HTTP/2 (RFC 9113 §8.2) sends them; HTTP/1 names are lower-cased on
// receipt.

#include <cstdint>
#include <string_view>

namespace sluice::http {

// X-macro: identifier, wire name. The first 64 have a presence bit in HeaderMap: keep the most often asked-for first.
#define SLUICE_HEADER_NAMES(X)                                          \
  X(kHost, "host")                                                      \
  X(kConnection, "connection")                                          \
  X(kContentLength, "content-length")                                   \
  X(kTransferEncoding, "transfer-encoding")                             \
  X(kContentType, "content-type")                                       \
  X(kUserAgent, "user-agent")                                           \
  X(kAccept, "accept")                                                  \
  X(kAcceptEncoding, "accept-encoding")                                 \
  X(kCookie, "cookie")                                                  \
  X(kAuthorization, "authorization")                                    \
  X(kExpect, "expect")                                                  \
  X(kUpgrade, "upgrade")                                                \
  X(kTe, "te")                                                          \
  X(kTrailer, "trailer")                                                \
  X(kKeepAlive, "keep-alive")                                           \
  X(kProxyConnection, "proxy-connection")                               \
  X(kHttp2Settings, "http2-settings")                                   \
  X(kXForwardedFor, "x-forwarded-for")                                  \
  X(kXForwardedProto, "x-forwarded-proto")                              \
  X(kXForwardedHost, "x-forwarded-host")                                \
  X(kXForwardedPort, "x-forwarded-port")                                \
  X(kXForwardedClientCert, "x-forwarded-client-cert")                   \
  X(kXRequestId, "x-request-id")                                        \
  X(kXRealIp, "x-real-ip")                                              \
  X(kXEnvoyExternalAddress, "x-envoy-external-address")                 \
  X(kXEnvoyInternal, "x-envoy-internal")                                \
  X(kXEnvoyAttemptCount, "x-envoy-attempt-count")                       \
  X(kXEnvoyExpectedRqTimeoutMs, "x-envoy-expected-rq-timeout-ms")       \
  X(kXEnvoyOriginalPath, "x-envoy-original-path")                       \
  X(kXEnvoyOriginalHost, "x-envoy-original-host")                       \
  X(kXEnvoyUpstreamServiceTime, "x-envoy-upstream-service-time")        \
  X(kXEnvoyDecoratorOperation, "x-envoy-decorator-operation")           \
  X(kOriginalHost, "original-host")                                     \
  X(kReqStartTime, "req-start-time")                                    \
  X(kReqCostTime, "req-cost-time")                                      \
  X(kReqArriveTime, "req-arrive-time")                                  \
  X(kRespStartTime, "resp-start-time")                                  \
  X(kXB3TraceId, "x-b3-traceid")                                        \
  X(kServer, "server")                                                  \
  X(kDate, "date")                                                      \
  X(kContentEncoding, "content-encoding")                               \
  X(kVary, "vary")                                                      \
  X(kEtag, "etag")                                                      \
  X(kCacheControl, "cache-control")                                     \
  X(kLocation, "location")                                              \
  X(kSetCookie, "set-cookie")                                           \
  X(kOrigin, "origin")                                                  \
  X(kAccessControlRequestMethod, "access-control-request-method")       \
  X(kAccessControlRequestHeaders, "access-control-request-headers")     \
  X(kGrpcStatus, "grpc-status")                                         \
  X(kGrpcMessage, "grpc-message")                                       \
  X(kGrpcTimeout, "grpc-timeout")                                       \
  X(kReferer, "referer")                                                \
  X(kRange, "range")                                                    \
  X(kContentRange, "content-range")                                     \
  X(kXForwarded, "forwarded")                                           \
  X(kIfNoneMatch, "if-none-match")                                      \
  X(kIfModifiedSince, "if-modified-since")                              \
  X(kLastModified, "last-modified")                                     \
  X(kAcceptLanguage, "accept-language")                                 \
  X(kAccessControlAllowOrigin, "access-control-allow-origin")           \
  X(kAccessControlAllowMethods, "access-control-allow-methods")         \
  X(kAccessControlAllowHeaders, "access-control-allow-headers")         \
  X(kAccessControlAllowCredentials, "access-control-allow-credentials") \
  X(kAccessControlExposeHeaders, "access-control-expose-headers")       \
  X(kAccessControlMaxAge, "access-control-max-age")                     \
  X(kXLocalRateLimit, "x-local-rate-limit")                             \
  X(kXMseConsumer, "x-mse-consumer")                                    \
  X(kRetryAfter, "retry-after")                                         \
  X(kAge, "age")                                                        \
  X(kAllow, "allow")                                                    \
  X(kAcceptRanges, "accept-ranges")                                     \
  X(kVia, "via")                                                        \
  X(kPragma, "pragma")                                                  \
  X(kExpires, "expires")                                                \
  X(kLink, "link")                                                      \
  X(kStrictTransportSecurity, "strict-transport-security")              \
  X(kWwwAuthenticate, "www-authenticate")                               \
  X(kProxyAuthorization, "proxy-authorization")                         \
  X(kProxyAuthenticate, "proxy-authenticate")                           \
  X(kSecWebsocketKey, "sec-websocket-key")                              \
  X(kSecWebsocketAccept, "sec-websocket-accept")                        \
  X(kSecWebsocketVersion, "sec-websocket-version")                      \
  X(kSecWebsocketProtocol, "sec-websocket-protocol")                    \
  X(kSecWebsocketExtensions, "sec-websocket-extensions")                \
  X(kSecFetchMode, "sec-fetch-mode")                                    \
  X(kSecFetchSite, "sec-fetch-site")                                    \
  X(kSecFetchDest, "sec-fetch-dest")                                    \
  X(kUpgradeInsecureRequests, "upgrade-insecure-requests")              \
  X(kPriority, "priority")                                              \
  X(kTraceparent, "traceparent")                                        \
  X(kTracestate, "tracestate")                                          \
  X(kGrpcEncoding, "grpc-encoding")                                     \
  X(kGrpcAcceptEncoding, "grpc-accept-encoding")                        \
  X(kIfMatch, "if-match")                                               \
  X(kIfRange, "if-range")                                               \
  X(kIfUnmodifiedSince, "if-unmodified-since")                          \
  X(kContentDisposition, "content-disposition")                         \
  X(kContentLanguage, "content-language")                               \
  X(kAltSvc, "alt-svc")

enum class HeaderId : uint16_t {
#define X(id, name) id,
  SLUICE_HEADER_NAMES(X)
#undef X
      kCount,
  kOther = 0xffff,  // a name that is not in the table
};

inline constexpr int kHeaderIdCount = static_cast<int>(HeaderId::kCount);

// The wire name of a known id.
std::string_view header_name(HeaderId id);

// The id of a lower-case name, or kOther.
HeaderId find_header_id(std::string_view lower_case_name);

}  // namespace sluice::http
