#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int set_option(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

// SO_REUSEADDR always: connections of an earlier run that linger in TIME_WAIT must not keep the port from a new one.
static int open_stream(bool is_v4, bool reuse_port) {
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) return -errno;
    int failure = is_v4 ? 0 : set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (failure == 0) failure = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (failure == 0 && reuse_port) failure = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (failure == 0) return fd;
    close(fd);
    return failure;
}

int turnpike_tcp_listen(turnpike_address *address, int backlog, bool reuse_port) {
    int fd = open_stream(turnpike_address_is_v4(address), reuse_port);
    if (fd < 0) return fd;
    // TCP_DEFER_ACCEPT stays off: with it, a client that connects and is silent would lie in the kernel, where no
    // deadline and no limit of ours reaches it.
    int failure = turnpike_bind(fd, address);
    if (failure == 0 && listen(fd, backlog) < 0) failure = -errno;
    if (failure == 0) return fd;
    close(fd);
    return failure;
}

int turnpike_tcp_accept(int fd, turnpike_address *peer) {
    for (;;) {
        peer->length = sizeof peer->v6;
        int accepted = accept4(fd, &peer->generic, &peer->length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) return accepted;
        if (errno != EINTR) return -errno;
    }
}

int turnpike_tcp_connect(const turnpike_address *peer, const turnpike_address *source) {
    int fd = open_stream(turnpike_address_is_v4(peer), source != NULL);
    if (fd < 0) return fd;
    int failure = 0;
    if (source != NULL && bind(fd, &source->generic, source->length) < 0) failure = -errno;
    // EINTR as well leaves the connection being made.
    if (failure == 0 && connect(fd, &peer->generic, peer->length) < 0 && errno != EINPROGRESS && errno != EINTR)
        failure = -errno;
    if (failure == 0) return fd;
    close(fd);
    return failure;
}

int turnpike_local_address(int fd, turnpike_address *address) {
    address->length = sizeof address->v6;
    return getsockname(fd, &address->generic, &address->length) < 0 ? -errno : 0;
}

int turnpike_pending_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}

int turnpike_tcp_set_no_delay(int fd, bool on) { return set_option(fd, IPPROTO_TCP, TCP_NODELAY, on); }

int turnpike_tcp_set_keepalive(int fd, int idle_seconds, int interval_seconds, int probes) {
    int failure = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
    if (failure == 0) failure = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_seconds);
    if (failure == 0) failure = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
    return failure != 0 ? failure : set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

int turnpike_tcp_share_port(int fd) { return set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1); }

int turnpike_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

int turnpike_tcp_abort(int fd) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    int failure = setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) < 0 ? -errno : 0;
    int closed = close(fd) < 0 ? -errno : 0;
    return closed != 0 ? closed : failure;
}

ssize_t turnpike_stream_receive(int fd, void *bytes, size_t capacity) {
    ssize_t received;
    do {
        received = recv(fd, bytes, capacity, MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received < 0 ? -errno : received;
}

ssize_t turnpike_stream_send(int fd, const void *bytes, size_t count) {
    ssize_t sent;
    do {
        sent = send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t turnpike_stream_send_parts(int fd, const struct iovec *parts, int count) {
    // sendmsg and not writev, which takes no flags. The kernel does not write to the parts.
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

int turnpike_open_null(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
