#include "CLinux.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <unistd.h>

_Static_assert(IP_PMTUDISC_DONT == TURNPIKE_MTU_DONT && IPV6_PMTUDISC_DONT == TURNPIKE_MTU_DONT, "MTU mode");
_Static_assert(IP_PMTUDISC_WANT == TURNPIKE_MTU_WANT && IPV6_PMTUDISC_WANT == TURNPIKE_MTU_WANT, "MTU mode");
_Static_assert(IP_PMTUDISC_DO == TURNPIKE_MTU_DO && IPV6_PMTUDISC_DO == TURNPIKE_MTU_DO, "MTU mode");
_Static_assert(IP_PMTUDISC_PROBE == TURNPIKE_MTU_PROBE && IPV6_PMTUDISC_PROBE == TURNPIKE_MTU_PROBE, "MTU mode");
_Static_assert(IP_PMTUDISC_OMIT == TURNPIKE_MTU_OMIT && IPV6_PMTUDISC_OMIT == TURNPIKE_MTU_OMIT, "MTU mode");
_Static_assert(
    SO_EE_ORIGIN_LOCAL == TURNPIKE_ERROR_LOCAL && SO_EE_ORIGIN_ICMP == TURNPIKE_ERROR_ICMP
        && SO_EE_ORIGIN_ICMP6 == TURNPIKE_ERROR_ICMP6,
    "error origin"
);

static int set_option(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

int turnpike_udp_open(bool is_v4, bool reuse_address, bool reuse_port) {
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0) return -errno;
    int failure = is_v4 ? 0 : set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (failure == 0 && reuse_address) failure = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (failure == 0 && reuse_port) failure = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (failure == 0) return fd;
    close(fd);
    return failure;
}

int turnpike_bind(int fd, turnpike_address *address) {
    if (bind(fd, &address->generic, address->length) < 0) return -errno;
    address->length = sizeof address->v6;
    return getsockname(fd, &address->generic, &address->length) < 0 ? -errno : 0;
}

static int set_buffer(int fd, int forced, int plain, int bytes) {
    // The forced form passes net.core.[rw]mem_max but needs CAP_NET_ADMIN; the plain one is cut to that limit.
    if (set_option(fd, SOL_SOCKET, forced, bytes) != 0) {
        int failure = set_option(fd, SOL_SOCKET, plain, bytes);
        if (failure != 0) return failure;
    }
    int granted = 0;
    socklen_t length = sizeof granted;
    return getsockopt(fd, SOL_SOCKET, plain, &granted, &length) < 0 ? -errno : granted;
}

int turnpike_set_receive_buffer(int fd, int bytes) { return set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bytes); }

int turnpike_set_send_buffer(int fd, int bytes) { return set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bytes); }

int turnpike_set_gro(int fd, bool on) { return set_option(fd, SOL_UDP, UDP_GRO, on); }

int turnpike_set_packet_info(int fd, bool is_v4, bool on) {
    return is_v4 ? set_option(fd, IPPROTO_IP, IP_PKTINFO, on) : set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, on);
}

int turnpike_set_mtu_discovery(int fd, bool is_v4, int mode) {
    return is_v4 ? set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, mode)
                 : set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode);
}

int turnpike_set_error_queue(int fd, bool is_v4, bool on) {
    return is_v4 ? set_option(fd, IPPROTO_IP, IP_RECVERR, on) : set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, on);
}

int turnpike_receive_error(int fd, turnpike_socket_error *error) {
    // The error with the address of who reported it, with room for what else a later kernel may say.
    union {
        struct cmsghdr aligned;
        uint8_t bytes[256];
    } control;
    struct msghdr message = {
        .msg_name = &error->destination,
        .msg_namelen = sizeof(struct sockaddr_in6),
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    memset(error, 0, sizeof *error);
    ssize_t length;
    do {
        length = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    } while (length < 0 && errno == EINTR);
    if (length < 0) return errno == EAGAIN ? 0 : -errno;
    error->destination.length = message.msg_namelen;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
        bool is_error = (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_RECVERR)
                        || (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_RECVERR);
        struct sock_extended_err detail;
        if (!is_error || at->cmsg_len < CMSG_LEN(sizeof detail)) continue;
        memcpy(&detail, CMSG_DATA(at), sizeof detail);
        error->number = (int)detail.ee_errno;
        error->information = detail.ee_info;
        error->origin = detail.ee_origin;
        error->type = detail.ee_type;
        error->code = detail.ee_code;
    }
    return 1;
}

bool turnpike_segment_supported(void) {
    // Either family will do: the option belongs to UDP. A host may have been built or booted without one of them.
    int fd = turnpike_udp_open(true, false, false);
    if (fd < 0) fd = turnpike_udp_open(false, false, false);
    if (fd < 0) return false;
    bool supported = set_option(fd, SOL_UDP, UDP_SEGMENT, 1200) == 0;
    close(fd);
    return supported;
}
