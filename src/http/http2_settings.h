#pragma once
// What one side of an HTTP/2 connection (RFC 9113) advertises, and every limit that bounds what a
// peer can make us hold or do. One object is shared by all connections of a listener or cluster and
// outlives them.
//
// Floods are judged per connection in windows of flood_window_ms. A kind of frame that makes no
// progress by itself may be sent `max_…` times in a window, plus a share of the useful frames
// (HEADERS and DATA with content, either direction) of the same window, so that busy connections
// are not mistaken for hostile ones. Beyond that the connection ends with GOAWAY ENHANCE_YOUR_CALM.

#include <cstddef>
#include <cstdint>

namespace sluice::http {

struct Http2Settings {
  // Advertised with SETTINGS (RFC 9113 §6.5.2).
  uint32_t max_concurrent_streams = 100;  // client: how many we open at the most, whatever the server allows
  uint32_t stream_window = 65'535;        // bytes of body a peer may send on one stream beyond what was consumed
  uint32_t connection_window = 1 << 20;   // bytes in flight on all streams together; at least 65,535
  uint32_t header_table_bytes = 4096;     // HPACK decoder's dynamic table
  bool extended_connect = true;           // server: SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441)

  // HPACK encoder's dynamic table: the smaller of this and what the peer allows.
  uint32_t encoder_table_bytes = 4096;

  // A header list larger than this (names + values + 32 a field, RFC 9113 §10.5.1) or with more
  // fields is answered 431; more than four times as large ends the connection. Trailers, and the
  // client's responses, over it reset the stream.
  uint32_t max_header_list_bytes = 60 * 1024;
  uint32_t max_header_count = 100;
  uint32_t max_continuations = 8;  // CONTINUATION frames of one header block; more ends the connection

  // Body bytes held for paused streams up to which the connection window is returned at once, so
  // that a paused stream does not slow the others. Beyond it the window is withheld: a connection
  // holds at most this plus connection_window.
  uint32_t max_held_bytes = 1 << 20;

  // Output handed to the socket's queue before more frames are made: the bound of a peer that does
  // not read, besides what the streams themselves hold (ServerStream::buffered()).
  uint32_t output_bytes = 128 * 1024;
  uint32_t max_queued_frames =
      1000;  // frames (acknowledgements, resets) that wait behind it; more: the connection ends

  // Floods.
  uint32_t flood_window_ms = 10'000;
  // Streams reset by the peer, or by us because the peer broke the protocol on them
  // (CVE-2023-44487, CVE-2025-8671). Allowed: this many, or as many as streams completed in the
  // window if that is more.
  uint32_t max_resets = 200;
  uint32_t max_settings_frames = 50;         // SETTINGS without ACK
  uint32_t max_ping_frames = 200;            // PING without ACK; + 1 per useful frame
  uint32_t max_priority_frames = 500;        // PRIORITY, PRIORITY_UPDATE; + 2 per useful frame
  uint32_t max_window_update_frames = 1000;  // + 4 per useful frame
  uint32_t max_empty_frames = 100;           // DATA without content and END_STREAM, padding or not
  uint32_t max_unknown_frames = 200;         // of unknown types, and RST_STREAM of closed streams; + 1 per useful frame

  // Timeouts in milliseconds; 0: none.
  uint32_t preface_timeout_ms = 10'000;  // until the peer's first SETTINGS
  uint32_t header_timeout_ms = 15'000;   // from the first byte of a header block to its end
  uint32_t idle_timeout_ms = 180'000;    // without streams: GOAWAY and close. PINGs do not prolong it
  uint32_t drain_notice_ms = 1000;  // between the first and the final GOAWAY of drain(), if the peer's PING is late
  // Server: a response that waits for the peer (its windows, its socket) and moves slower than min_body_rate over this
  // time ends its stream, or the connection if that is what stands still.
  uint32_t write_timeout_ms = 60'000;
  // Server: bytes per second of a request body, over body_rate_window_ms, until the response begins: 408. Bodies of
  // gRPC and tunnels may be slow. 0: off.
  uint32_t min_body_rate = 64;
  uint32_t body_rate_window_ms = 30'000;
  uint32_t linger_ms = 2000;  // reading on after the final GOAWAY, so that the peer gets it
  // Client: a PING after this long without a byte received while streams are open; 0: none. No
  // answer within keepalive_timeout_ms ends the connection.
  uint32_t keepalive_interval_ms = 0;
  uint32_t keepalive_timeout_ms = 10'000;

  // The bytes that must move in that time.
  uint64_t wanted(uint32_t window_ms) const {
    const uint64_t bytes = uint64_t{min_body_rate} * window_ms / 1000;
    return bytes ? bytes : 1;
  }

  // Stream ids above this start a drain (server) or are not used (client); RFC 9113 §5.1.1.
  uint32_t last_stream_id = 0x7fff'ff00;

  // Defaults of the side that talks to upstreams: windows for throughput, since what is upstream is
  // trusted more and a paused response is still bounded by one stream window.
  static Http2Settings for_client() {
    Http2Settings settings;
    settings.stream_window = 256 * 1024;
    settings.connection_window = 16 << 20;
    settings.max_held_bytes = 16 << 20;
    settings.idle_timeout_ms = 0;  // the pool's
    settings.write_timeout_ms = settings.min_body_rate = 0;
    settings.max_ping_frames = 1000;
    settings.max_resets = 1000;
    return settings;
  }
};

}  // namespace sluice::http
