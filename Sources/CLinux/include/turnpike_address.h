// Socket addresses, and their translation to the 128-bit numbers the rest of the server works with.
#ifndef TURNPIKE_ADDRESS_H
#define TURNPIKE_ADDRESS_H

#include <endian.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

// A socket address of either family with its length, 32 bytes: a ready argument for bind and sendmsg.
typedef struct turnpike_address {
    union {
        struct sockaddr generic;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t length;
} turnpike_address;

// Upper half of `low` for an IPv4 address, which is held as ::ffff:a.b.c.d.
#define TURNPIKE_V4_MAPPED 0x0000FFFF00000000ULL

// A link-local IPv6 address means nothing without its interface. 54 bits behind fe80::/10 are zero (RFC 4291 section
// 2.5.6), and the interface's index stands in the lower 32 of `high`, so that the same address on two links is two
// addresses, and an answer finds its way back. STUN's attributes leave it out.
#define TURNPIKE_LINK_LOCAL 0xFE80000000000000ULL

static inline uint64_t turnpike_scoped(uint64_t high, uint32_t interface_index) {
    return high == TURNPIKE_LINK_LOCAL ? high | interface_index : high;
}

// Takes the index out again, or 0.
static inline uint32_t turnpike_take_scope(uint64_t *_Nonnull high) {
    if (*high >> 32 != TURNPIKE_LINK_LOCAL >> 32) return 0;
    uint32_t interface_index = (uint32_t)*high;
    *high = TURNPIKE_LINK_LOCAL;
    return interface_index;
}

// `high` and `low` are the address's bytes in network order, read as numbers; `port` is in host order.
static inline void turnpike_address_set(
    turnpike_address *_Nonnull address, uint64_t high, uint64_t low, bool is_v4, uint16_t port
) {
    memset(address, 0, sizeof *address);
    if (is_v4) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htobe16(port);
        address->v4.sin_addr.s_addr = htobe32((uint32_t)low);
        address->length = sizeof address->v4;
    } else {
        address->v6.sin6_scope_id = turnpike_take_scope(&high);
        uint64_t halves[2] = {htobe64(high), htobe64(low)};
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htobe16(port);
        memcpy(&address->v6.sin6_addr, halves, sizeof halves);
        address->length = sizeof address->v6;
    }
}

static inline bool turnpike_address_is_v4(const turnpike_address *_Nonnull address) {
    return address->generic.sa_family == AF_INET;
}

// The port is at the same offset in both families.
static inline uint16_t turnpike_address_port(const turnpike_address *_Nonnull address) {
    return be16toh(address->v4.sin_port);
}

static inline uint64_t turnpike_address_high(const turnpike_address *_Nonnull address) {
    uint64_t half;
    if (turnpike_address_is_v4(address)) return 0;
    memcpy(&half, &address->v6.sin6_addr, sizeof half);
    return turnpike_scoped(be64toh(half), address->v6.sin6_scope_id);
}

static inline uint64_t turnpike_address_low(const turnpike_address *_Nonnull address) {
    uint64_t half;
    if (turnpike_address_is_v4(address)) return TURNPIKE_V4_MAPPED | be32toh(address->v4.sin_addr.s_addr);
    memcpy(&half, (const uint8_t *)&address->v6.sin6_addr + sizeof half, sizeof half);
    return be64toh(half);
}

#endif
