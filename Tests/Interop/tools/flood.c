// Sends datagrams faster than a script can, at a bounded rate, to a server on this machine.
//
//   flood challenges SERVER PORT COUNT SOURCES RATE
//       Allocate requests without credentials, from SOURCES loopback addresses in turn.
//   flood fuzz CORPUS SEED COUNT RATE DESCRIPTOR...
//       Mutations of recorded messages, each sent by the inherited, connected socket it was recorded for.
//
// Prints one JSON object: what was sent, what came back.
//
// A corpus is a sequence of records: a byte with the socket's index, a byte with the kind of integrity (0 none,
// 1 SHA-1, 2 SHA-256), a byte with the key's length, the key, two bytes (big-endian) with the message's length, the
// message. An integrity attribute, if there is one, is the message's last attribute.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, LARGEST = 4096, RECORDS_MAX = 512, SOCKETS_MAX = 64 };

static uint64_t sent, received, bytes_out, bytes_in;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Holds the average at `rate` a second.
static void pace(double start, double rate) {
    double ahead = start + sent / rate - now_seconds();
    if (ahead > 0.0005) usleep((useconds_t)(ahead * 1e6));
}

static void drain(int descriptor) {
    static uint8_t buffers[BATCH][2048];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    for (;;) {
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){buffers[i], sizeof buffers[i]};
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        int count = recvmmsg(descriptor, messages, BATCH, MSG_DONTWAIT, NULL);
        if (count < 0 && errno == ECONNREFUSED) continue;
        if (count <= 0) return;
        received += count;
        for (int i = 0; i < count; i++) bytes_in += messages[i].msg_len;
        if (count < BATCH) return;
    }
}

static void report(double start) {
    printf("{\"sent\": %" PRIu64 ", \"received\": %" PRIu64 ", \"bytes_sent\": %" PRIu64
           ", \"bytes_received\": %" PRIu64 ", \"seconds\": %.3f}\n",
           sent, received, bytes_out, bytes_in, now_seconds() - start);
}

// Challenges

static int challenges(char **arguments) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    if (inet_pton(AF_INET, arguments[0], &server.sin_addr) != 1) return 2;
    uint64_t count = strtoull(arguments[2], NULL, 10);
    uint32_t sources = strtoul(arguments[3], NULL, 10);
    double rate = atof(arguments[4]);

    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    int size = 8 << 20;
    if (descriptor < 0 || bind(descriptor, (void *)&any, sizeof any)) die("socket");
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);

    // Allocate, 8 bytes of attributes, REQUESTED-TRANSPORT = UDP.
    static const uint8_t request[28] = {0, 3, 0, 8, 0x21, 0x12, 0xA4, 0x42, [20] = 0, 0x19, 0, 4, 17};
    uint8_t datagrams[BATCH][sizeof request];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    _Alignas(struct cmsghdr) uint8_t controls[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];

    double start = now_seconds();
    while (sent < count) {
        int batch = count - sent < BATCH ? (int)(count - sent) : BATCH;
        memset(messages, 0, sizeof messages);
        memset(controls, 0, sizeof controls);
        for (int i = 0; i < batch; i++) {
            uint64_t number = sent + i;
            memcpy(datagrams[i], request, sizeof request);
            memcpy(datagrams[i] + 12, &number, sizeof number);
            vectors[i] = (struct iovec){datagrams[i], sizeof request};
            struct msghdr *header = &messages[i].msg_hdr;
            *header = (struct msghdr){.msg_name = &server, .msg_namelen = sizeof server, .msg_iov = &vectors[i],
                                      .msg_iovlen = 1, .msg_control = controls[i],
                                      .msg_controllen = sizeof controls[i]};
            struct cmsghdr *control = CMSG_FIRSTHDR(header);
            control->cmsg_level = IPPROTO_IP;
            control->cmsg_type = IP_PKTINFO;
            control->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
            // 127.128.0.1 and up: a source address of the sender's choice, which loopback allows without spoofing.
            struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(0x7F800001u + (uint32_t)(number % sources))};
            memcpy(CMSG_DATA(control), &info, sizeof info);
        }
        int done = sendmmsg(descriptor, messages, batch, 0);
        if (done < 0) {
            if (errno == ECONNREFUSED || errno == EAGAIN || errno == ENOBUFS) continue;
            die("sendmmsg");
        }
        sent += done;
        bytes_out += (uint64_t)done * sizeof request;
        drain(descriptor);
        pace(start, rate);
    }
    for (int i = 0; i < 20; i++) {
        usleep(10000);
        drain(descriptor);
    }
    report(start);
    return 0;
}

// Mutations

struct record {
    int socket, integrity, key_length, length;
    uint8_t key[64], bytes[LARGEST];
};

static struct record records[RECORDS_MAX];
static int record_count;
static uint64_t state;

static uint64_t next(void) {
    // xorshift64*: the same seed gives the same datagrams.
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717ull;
}

static uint32_t below(uint32_t bound) { return bound ? (uint32_t)((next() >> 32) % bound) : 0; }

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    int index;
    while (record_count < RECORDS_MAX && (index = getc(file)) != EOF) {
        struct record *record = &records[record_count++];
        record->socket = index;
        record->integrity = getc(file);
        record->key_length = getc(file);
        if (record->key_length < 0 || record->key_length > (int)sizeof record->key) exit(2);
        if (fread(record->key, 1, record->key_length, file) != (size_t)record->key_length) exit(2);
        int high = getc(file), low = getc(file);
        record->length = high << 8 | low;
        if (record->length > LARGEST) exit(2);
        if (fread(record->bytes, 1, record->length, file) != (size_t)record->length) exit(2);
    }
    fclose(file);
    if (!record_count) exit(2);
}

static const uint16_t interesting[] = {0, 1, 2, 3, 4, 5, 8, 16, 19, 20, 21, 0x7F, 0x80, 0xFF, 0x100, 0x4000, 0x4FFF,
                                       0x5000, 0x7FFF, 0x8000, 0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF};
static const uint16_t attribute_types[] = {0x01, 0x03, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x12, 0x13, 0x14,
                                           0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x20,
                                           0x22, 0x26, 0x27, 0x7FFF, 0x8000, 0x8002, 0x8004, 0x8022, 0x8028,
                                           0x8030, 0xC0FF};
#define ONE_OF(list) list[below(sizeof list / sizeof *list)]

static void put16(uint8_t *at, uint16_t value) {
    at[0] = value >> 8;
    at[1] = value & 0xFF;
}

// The offset of some attribute's header in `length` bytes of message, or 0 when there is none.
static int some_attribute(const uint8_t *bytes, int length) {
    int offsets[64], count = 0;
    for (int at = 20; at + 4 <= length && count < 64;) {
        offsets[count++] = at;
        at += 4 + (((bytes[at + 2] << 8 | bytes[at + 3]) + 3) & ~3);
    }
    return count ? offsets[below(count)] : 0;
}

static int mutate(uint8_t *bytes, int length, int first) {
    if (length <= first) return length;
    int at = first + below(length - first), attribute;
    switch (below(12)) {
    case 0:
        bytes[at] ^= 1 << below(8);
        break;
    case 1:
        bytes[at] = next() >> 56;
        break;
    case 2:
        if (at + 2 <= length) put16(bytes + (at & ~1), ONE_OF(interesting));
        break;
    case 3:
        return first + below(length - first);
    case 4: {
        int more = below(64);
        if (length + more > LARGEST) break;
        for (int i = 0; i < more; i++) bytes[length + i] = next() >> 56;
        return length + more;
    }
    case 5: {
        int size = below(length - at), to = first + below(length - first - size);
        memmove(bytes + to, bytes + at, size);
        break;
    }
    case 6: {
        const struct record *other = &records[below(record_count)];
        int from = below(other->length), size = other->length - from;
        if (at + size > LARGEST) break;
        memcpy(bytes + at, other->bytes + from, size);
        return at + size;
    }
    case 7:
        if ((attribute = some_attribute(bytes, length))) put16(bytes + attribute, ONE_OF(attribute_types));
        break;
    case 8:
        if ((attribute = some_attribute(bytes, length))) put16(bytes + attribute + 2, ONE_OF(interesting));
        break;
    case 9: // An attribute twice.
        if ((attribute = some_attribute(bytes, length))) {
            int size = 4 + (((bytes[attribute + 2] << 8 | bytes[attribute + 3]) + 3) & ~3);
            if (attribute + size > length || length + size > LARGEST) break;
            memmove(bytes + attribute + size, bytes + attribute, length - attribute);
            return length + size;
        }
        break;
    case 10: // An attribute less.
        if ((attribute = some_attribute(bytes, length))) {
            int size = 4 + (((bytes[attribute + 2] << 8 | bytes[attribute + 3]) + 3) & ~3);
            if (attribute + size > length) break;
            memmove(bytes + attribute, bytes + attribute + size, length - attribute - size);
            return length - size;
        }
        break;
    case 11:
        if ((attribute = some_attribute(bytes, length))) {
            int size = bytes[attribute + 2] << 8 | bytes[attribute + 3];
            for (int i = 0; i < size && attribute + 4 + i < length; i++) bytes[attribute + 4 + i] = next() >> 56;
        }
        break;
    }
    return length;
}

static int sign(const struct record *record, uint8_t *bytes, int length) {
    int size = record->integrity == 1 ? 20 : 32;
    unsigned written = 0;
    length &= ~3;
    if (length < 20 || length + 4 + size > LARGEST) return length;
    put16(bytes + 2, length + 4 + size - 20);
    put16(bytes + length, record->integrity == 1 ? 0x0008 : 0x001C);
    put16(bytes + length + 2, size);
    HMAC(record->integrity == 1 ? EVP_sha1() : EVP_sha256(), record->key, record->key_length, bytes, length,
         bytes + length + 4, &written);
    return length + 4 + size;
}

// One mutated datagram of the record in `bytes`; returns its length.
static int make(const struct record *record, uint8_t *bytes) {
    int length = record->length;
    memcpy(bytes, record->bytes, length);
    int rounds = below(4);
    if (record->integrity && below(2)) {
        // Behind a right integrity the mutations reach the handlers: header type and attributes change, not the rest.
        length -= record->integrity == 1 ? 24 : 36;
        for (int i = 0; i <= rounds; i++) length = mutate(bytes, length, 20);
        if (below(4) == 0) {
            uint64_t transaction = next();
            memcpy(bytes + 12, &transaction, 8);
        }
        if (length < 20) length = 20;
        return sign(record, bytes, length);
    }
    for (int i = 0; i <= rounds; i++) length = mutate(bytes, length, 0);
    if (length >= 20 && below(2)) put16(bytes + 2, (length - 20) & ~3);
    return length > 2000 ? 2000 : length;
}

static int fuzz(int argument_count, char **arguments) {
    load(arguments[0]);
    state = strtoull(arguments[1], NULL, 10) * 2 + 1;
    uint64_t count = strtoull(arguments[2], NULL, 10);
    double rate = atof(arguments[3]);
    int sockets[SOCKETS_MAX], socket_count = 0;
    for (int i = 4; i < argument_count && socket_count < SOCKETS_MAX; i++) sockets[socket_count++] = atoi(arguments[i]);
    for (int i = 0; i < record_count; i++)
        if (records[i].socket >= socket_count) return 2;

    static uint8_t bytes[2 * LARGEST];
    double start = now_seconds();
    while (sent < count) {
        const struct record *record = &records[below(record_count)];
        int length = make(record, bytes);
        int descriptor = sockets[record->socket];
        if (send(descriptor, bytes, length, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS && errno != EAGAIN)
            die("send");
        sent++;
        bytes_out += length;
        if (sent % 32 == 0) {
            for (int i = 0; i < socket_count; i++) drain(sockets[i]);
            pace(start, rate);
        }
    }
    for (int tries = 0; tries < 20; tries++) {
        usleep(10000);
        for (int i = 0; i < socket_count; i++) drain(sockets[i]);
    }
    report(start);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 7 && !strcmp(arguments[1], "challenges")) return challenges(arguments + 2);
    if (count >= 7 && !strcmp(arguments[1], "fuzz")) return fuzz(count - 2, arguments + 2);
    fprintf(stderr, "usage: flood challenges SERVER PORT COUNT SOURCES RATE\n"
                    "       flood fuzz CORPUS SEED COUNT RATE DESCRIPTOR...\n");
    return 2;
}
