// Making and setting up UDP sockets. Results are 0 or more, or a negative errno.
#ifndef TURNPIKE_SOCKET_H
#define TURNPIKE_SOCKET_H

#include "turnpike_address.h"

// A non-blocking, close-on-exec UDP socket; IPv6 ones never take IPv4 traffic (IPV6_V6ONLY).
int turnpike_udp_open(bool is_v4, bool reuse_address, bool reuse_port);
// Binds, and replaces `address` by the one bound, whose port is then known.
int turnpike_bind(int fd, turnpike_address *_Nonnull address);
// Sets SO_RCVBUF or SO_SNDBUF, beyond the system's limit where the process may; returns what the kernel then reports.
int turnpike_set_receive_buffer(int fd, int bytes);
int turnpike_set_send_buffer(int fd, int bytes);
int turnpike_set_gro(int fd, bool on);
int turnpike_set_packet_info(int fd, bool is_v4, bool on);
// `mode` is one of TURNPIKE_MTU_*.
int turnpike_set_mtu_discovery(int fd, bool is_v4, int mode);
// Whether this kernel knows UDP_SEGMENT.
bool turnpike_segment_supported(void);

// IP_PMTUDISC_* and IPV6_PMTUDISC_* share these numbers; socket.c asserts it.
#define TURNPIKE_MTU_DONT 0
#define TURNPIKE_MTU_WANT 1
#define TURNPIKE_MTU_DO 2
#define TURNPIKE_MTU_PROBE 3
#define TURNPIKE_MTU_OMIT 5

// Has the kernel keep the ICMP errors that answer this socket's datagrams, for `turnpike_receive_error`. From then on
// an error that waits also fails the next call on the socket, whatever that call is about.
int turnpike_set_error_queue(int fd, bool is_v4, bool on);

// SO_EE_ORIGIN_*: who says that a datagram did not arrive.
#define TURNPIKE_ERROR_LOCAL 1
#define TURNPIKE_ERROR_ICMP 2
#define TURNPIKE_ERROR_ICMP6 3

// Why a datagram did not arrive.
typedef struct turnpike_socket_error {
    // Where it was sent to. The port is 0 where the kernel did not note it.
    turnpike_address destination;
    int number;
    // The next hop's MTU, where the error is about that.
    uint32_t information;
    uint8_t origin;
    uint8_t type;
    uint8_t code;
} turnpike_socket_error;

// Takes one error from the queue without waiting. Returns 1, 0 when none waits, or a negative errno.
int turnpike_receive_error(int fd, turnpike_socket_error *_Nonnull error);

#endif
