// TCP sockets. Results are 0 or more, or a negative errno; interrupted calls are made again.
#ifndef TURNPIKE_STREAM_H
#define TURNPIKE_STREAM_H

#include "turnpike_address.h"

#include <sys/uio.h>

// A non-blocking, close-on-exec socket that listens; `address` is replaced by the one bound. IPv6 ones never take IPv4
// traffic (IPV6_V6ONLY).
int turnpike_tcp_listen(turnpike_address *_Nonnull address, int backlog, bool reuse_port);
// A non-blocking, close-on-exec connection, and who made it.
int turnpike_tcp_accept(int fd, turnpike_address *_Nonnull peer);
// A socket that is being connected to `peer`, from `source` where that is given: several may share one source.
int turnpike_tcp_connect(const turnpike_address *_Nonnull peer, const turnpike_address *_Nullable source);
int turnpike_local_address(int fd, turnpike_address *_Nonnull address);
// The negative errno of what failed on this socket since the last call, or 0.
int turnpike_pending_error(int fd);
int turnpike_tcp_set_no_delay(int fd, bool on);
int turnpike_tcp_set_keepalive(int fd, int idle_seconds, int interval_seconds, int probes);
int turnpike_shutdown_write(int fd);
// SO_REUSEPORT, for a socket that is bound already.
int turnpike_tcp_share_port(int fd);
// Closes without a farewell: the peer sees a reset, and nothing stays behind in the kernel.
int turnpike_tcp_abort(int fd);

// Bytes received; 0 at the end of the stream, or with no room in `bytes`.
ssize_t turnpike_stream_receive(int fd, void *_Nonnull bytes, size_t capacity);
// Bytes the kernel took, which may be fewer than there are. Never blocks, and never raises SIGPIPE.
ssize_t turnpike_stream_send(int fd, const void *_Nonnull bytes, size_t count);
ssize_t turnpike_stream_send_parts(int fd, const struct iovec *_Nonnull parts, int count);

// A descriptor that only takes up a number.
int turnpike_open_null(void);

#endif
