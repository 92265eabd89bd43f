// Batched datagrams: one system call for many, and the control messages that go with them.
#ifndef TURNPIKE_BATCH_H
#define TURNPIKE_BATCH_H

#include "turnpike_address.h"

#include <netinet/udp.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

// The layout of `struct mmsghdr`, which Swift cannot see; datagram.c asserts that they agree.
typedef struct turnpike_message {
    struct msghdr header;
    unsigned int length;
} turnpike_message;

// The layout of `struct in6_pktinfo`, which needs _GNU_SOURCE; datagram.c asserts that they agree.
typedef struct turnpike_packet_info6 {
    struct in6_addr address;
    unsigned int interface_index;
} turnpike_packet_info6;

// Room for the control messages of one received datagram: UDP_GRO (24) and IPV6_PKTINFO (40), with a margin.
#define TURNPIKE_RECEIVE_CONTROL_BYTES 128
// Room for the control messages of one sent datagram: IPV6_PKTINFO (40) and UDP_SEGMENT (24).
#define TURNPIKE_SEND_CONTROL_BYTES 64

// What the control messages of a received datagram said.
typedef struct turnpike_arrival {
    uint64_t local_high;
    uint64_t local_low;
    uint32_t interface_index;
    // Size of all datagrams but the last in a payload that the kernel merged; 0 when it holds one datagram.
    uint16_t segment_bytes;
    bool has_local;
    bool local_is_v4;
} turnpike_arrival;

// Reads the control messages by hand: CMSG_NXTHDR is an out-of-line call per message in this C library.
static inline void turnpike_parse_control(const struct msghdr *_Nonnull header, turnpike_arrival *_Nonnull arrival) {
    *arrival = (turnpike_arrival){0};
    const uint8_t *at = (const uint8_t *)header->msg_control;
    size_t left = header->msg_controllen;
    while (left >= sizeof(struct cmsghdr)) {
        struct cmsghdr control;
        memcpy(&control, at, sizeof control);
        if (control.cmsg_len < sizeof control || control.cmsg_len > left) return;
        const uint8_t *data = at + CMSG_LEN(0);
        size_t bytes = control.cmsg_len - CMSG_LEN(0);
        if (control.cmsg_level == SOL_UDP && control.cmsg_type == UDP_GRO && bytes >= sizeof(int)) {
            int segment;
            memcpy(&segment, data, sizeof segment);
            arrival->segment_bytes = (uint16_t)segment;
        } else if (control.cmsg_level == IPPROTO_IP && control.cmsg_type == IP_PKTINFO
                   && bytes >= sizeof(struct in_pktinfo)) {
            struct in_pktinfo info;
            memcpy(&info, data, sizeof info);
            // The address to answer from, which is the destination itself unless that was a broadcast or multicast.
            arrival->local_low = TURNPIKE_V4_MAPPED | be32toh(info.ipi_spec_dst.s_addr);
            arrival->interface_index = (uint32_t)info.ipi_ifindex;
            arrival->has_local = true;
            arrival->local_is_v4 = true;
        } else if (control.cmsg_level == IPPROTO_IPV6 && control.cmsg_type == IPV6_PKTINFO
                   && bytes >= sizeof(turnpike_packet_info6)) {
            uint64_t halves[2];
            turnpike_packet_info6 info;
            memcpy(&info, data, sizeof info);
            memcpy(halves, &info.address, sizeof halves);
            arrival->local_high = turnpike_scoped(be64toh(halves[0]), info.interface_index);
            arrival->local_low = be64toh(halves[1]);
            arrival->interface_index = info.interface_index;
            arrival->has_local = true;
        }
        size_t space = CMSG_ALIGN(control.cmsg_len);
        if (space >= left) return;
        at += space;
        left -= space;
    }
}

// Writes the source address for an outgoing datagram at `control` and returns the bytes used. The interface is named
// for link-local IPv6 alone, which has no meaning without it; elsewhere it would overrule the routing table.
static inline size_t turnpike_put_source(
    void *_Nonnull control, uint64_t high, uint64_t low, bool is_v4, uint32_t interface_index
) {
    struct cmsghdr *at = (struct cmsghdr *)control;
    if (is_v4) {
        struct in_pktinfo info = {0};
        info.ipi_spec_dst.s_addr = htobe32((uint32_t)low);
        at->cmsg_level = IPPROTO_IP;
        at->cmsg_type = IP_PKTINFO;
        at->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(at), &info, sizeof info);
        return CMSG_SPACE(sizeof info);
    }
    turnpike_packet_info6 info = {0};
    uint32_t scope = turnpike_take_scope(&high);
    if (high >> 54 == TURNPIKE_LINK_LOCAL >> 54) info.interface_index = scope != 0 ? scope : interface_index;
    uint64_t halves[2] = {htobe64(high), htobe64(low)};
    memcpy(&info.address, halves, sizeof halves);
    at->cmsg_level = IPPROTO_IPV6;
    at->cmsg_type = IPV6_PKTINFO;
    at->cmsg_len = CMSG_LEN(sizeof info);
    memcpy(CMSG_DATA(at), &info, sizeof info);
    return CMSG_SPACE(sizeof info);
}

// Writes the size to cut an outgoing message into at `control` and returns the bytes used.
static inline size_t turnpike_put_segment(void *_Nonnull control, uint16_t segment_bytes) {
    struct cmsghdr *at = (struct cmsghdr *)control;
    at->cmsg_level = SOL_UDP;
    at->cmsg_type = UDP_SEGMENT;
    at->cmsg_len = CMSG_LEN(sizeof segment_bytes);
    memcpy(CMSG_DATA(at), &segment_bytes, sizeof segment_bytes);
    return CMSG_SPACE(sizeof segment_bytes);
}

// Points a receive message at its buffers, once for its life.
static inline void turnpike_message_prepare(
    turnpike_message *_Nonnull message, turnpike_address *_Nonnull name, struct iovec *_Nonnull vector,
    void *_Nonnull control
) {
    memset(message, 0, sizeof *message);
    message->header.msg_name = name;
    message->header.msg_iov = vector;
    message->header.msg_iovlen = 1;
    message->header.msg_control = control;
}

static inline bool turnpike_message_is_truncated(const turnpike_message *_Nonnull message) {
    return (message->header.msg_flags & MSG_TRUNC) != 0;
}

// Receives up to `count` datagrams without waiting; returns how many, or a negative errno.
int turnpike_receive(
    int fd, turnpike_message *_Nonnull messages, turnpike_arrival *_Nonnull arrivals, unsigned int count
);

// Sends up to `count` messages without waiting; returns how many went, or a negative errno for the first.
int turnpike_send(int fd, turnpike_message *_Nonnull messages, unsigned int count);

#endif
