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
    return be64toh(half);
}

static inline uint64_t turnpike_address_low(const turnpike_address *_Nonnull address) {
    uint64_t half;
    if (turnpike_address_is_v4(address)) return TURNPIKE_V4_MAPPED | be32toh(address->v4.sin_addr.s_addr);
    memcpy(&half, (const uint8_t *)&address->v6.sin6_addr + sizeof half, sizeof half);
    return be64toh(half);
}

#endif
