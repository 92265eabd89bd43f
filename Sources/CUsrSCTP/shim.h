// usrsctp as Swift sees it. What is a structure with a tail, a union or a variadic function pointer over there is a
// plain function here, so that no other C target is needed. Each function gives 0 or a count, or the negative errno.
#pragma once

// As Debian's library was compiled: they decide on the size of its union of addresses.
#ifndef INET
#define INET 1
#endif
#ifndef INET6
#define INET6 1
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <usrsctp.h>

typedef int (*turnpike_sctp_output)(void *address, void *packet, size_t length, uint8_t tos, uint8_t set_df);
typedef void (*turnpike_sctp_upcall)(struct socket *socket, void *address, int flags);

// The options of one association; times in milliseconds.
struct turnpike_sctp_options {
    uint16_t streams;
    uint16_t init_attempts;
    uint16_t retransmissions;
    uint32_t rto_initial, rto_min, rto_max;
    uint32_t heartbeat_interval;
    uint32_t packet_limit;
    int send_buffer, receive_buffer;
    uint32_t partial_delivery_point;
};

// What came with the bytes of one read.
struct turnpike_sctp_info {
    uint16_t stream;
    uint32_t payload_protocol;
    bool is_unordered, is_notification, is_end;
};

// The fixed part of a notification.
struct turnpike_sctp_notification {
    uint16_t type, flags;
    uint16_t state, error, outbound_streams, inbound_streams;
};

// CRC32c (RFC 9260 appendix A) by the processor's own instruction, where it has one. usrsctp's tables take a third of
// all the time that an association costs.
#if defined(__x86_64__)
static inline bool turnpike_sctp_has_crc32c(void) { return __builtin_cpu_supports("sse4.2"); }
__attribute__((target("sse4.2"))) static inline uint32_t turnpike_sctp_crc32c(
    uint32_t start, const unsigned char *bytes, size_t length
) {
    uint64_t crc = start, word;
    for (; length >= sizeof word; length -= sizeof word, bytes += sizeof word) {
        memcpy(&word, bytes, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; length > 0; length--) crc = __builtin_ia32_crc32qi((uint32_t)crc, *bytes++);
    return (uint32_t)crc;
}
#else
static inline bool turnpike_sctp_has_crc32c(void) { return false; }
static inline uint32_t turnpike_sctp_crc32c(uint32_t start, const unsigned char *bytes, size_t length) {
    (void)bytes, (void)length;
    return start;
}
#endif

// Of a packet that has a common header, as if its checksum were zero.
static inline uint32_t turnpike_sctp_checksum(const void *packet, size_t length) {
    static const unsigned char zeros[sizeof(uint32_t)] = {0};
    const unsigned char *bytes = (const unsigned char *)packet;
    const size_t place = offsetof(struct sctp_common_header, crc32c), behind = sizeof(struct sctp_common_header);
    uint32_t crc = turnpike_sctp_crc32c(UINT32_MAX, bytes, place);
    crc = turnpike_sctp_crc32c(crc, zeros, sizeof zeros);
    return ~turnpike_sctp_crc32c(crc, bytes + behind, length - behind);
}

// Puts the checksum into an outgoing packet, unless usrsctp did.
static inline void turnpike_sctp_seal(void *packet, size_t length) {
    if (!turnpike_sctp_has_crc32c() || length < sizeof(struct sctp_common_header)) return;
    uint32_t checksum = turnpike_sctp_checksum(packet, length);
    memcpy((char *)packet + offsetof(struct sctp_common_header, crc32c), &checksum, sizeof checksum);
}

// As above for a packet that was made here and not by usrsctp, on every processor.
static inline void turnpike_sctp_sign(void *packet, size_t length) {
    if (turnpike_sctp_has_crc32c()) return turnpike_sctp_seal(packet, length);
    if (length < sizeof(struct sctp_common_header)) return;
    unsigned char *bytes = (unsigned char *)packet, *place = bytes + offsetof(struct sctp_common_header, crc32c);
    uint32_t crc = UINT32_MAX;
    memset(place, 0, sizeof crc);
    for (size_t index = 0; index < length; index++) {
        crc ^= bytes[index];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0);
    }
    crc = ~crc;
    for (size_t index = 0; index < sizeof crc; index++) place[index] = (unsigned char)(crc >> 8 * index);
}

// Whether the checksum of an incoming packet is right; true where usrsctp looks itself.
static inline bool turnpike_sctp_is_whole(const void *packet, size_t length) {
    if (!turnpike_sctp_has_crc32c()) return true;
    if (length < sizeof(struct sctp_common_header)) return false;
    uint32_t checksum;
    memcpy(&checksum, (const char *)packet + offsetof(struct sctp_common_header, crc32c), sizeof checksum);
    return checksum == turnpike_sctp_checksum(packet, length);
}

// Once for a process. The callbacks get the address that the socket was bound to.
static inline void turnpike_sctp_start(turnpike_sctp_output output) {
    usrsctp_init_nothreads(0, output, NULL);
    if (turnpike_sctp_has_crc32c()) usrsctp_enable_crc32c_offload();
    // A packet that belongs to no association is not worth an answer: DTLS shows that its sender is the peer.
    usrsctp_sysctl_set_sctp_blackhole(2);
    // One path, inside DTLS: no addresses to tell of, no congestion marks to see, no authentication of its own.
    usrsctp_sysctl_set_sctp_ecn_enable(0);
    usrsctp_sysctl_set_sctp_asconf_enable(0);
    usrsctp_sysctl_set_sctp_auth_enable(0);
    usrsctp_sysctl_set_sctp_pktdrop_enable(0);
    usrsctp_sysctl_set_sctp_nrsack_enable(0);
    // RFC 8831 section 5: partial reliability and the resetting of streams.
    usrsctp_sysctl_set_sctp_pr_enable(1);
    usrsctp_sysctl_set_sctp_reconfig_enable(1);
    // How often a packet is sent again is each association's own matter.
    usrsctp_sysctl_set_sctp_max_retran_chunk(0);
    // RFC 6928's window, as browsers have it.
    usrsctp_sysctl_set_sctp_initial_cwnd(10);
    // Where a window of one packet waits for its acknowledgement, 200 ms would be most of the time.
    usrsctp_sysctl_set_sctp_delayed_sack_time_default(20);
    // What was given before a shutdown may take as long on a bad path; a peer that is gone is noticed sooner.
    usrsctp_sysctl_set_sctp_shutdown_guard_time_default(180);
    // 512 by default, which many small messages reach long before they fill the send buffer.
    usrsctp_sysctl_set_sctp_max_chunks_on_queue(10240);
    // Old packets cannot come back: each association has a DTLS session of its own. The list of tags that are not to be
    // used again would grow with the associations of a minute.
    usrsctp_sysctl_set_sctp_vtag_time_wait(0);
}

static inline struct sockaddr_conn turnpike_sctp_address(void *address, uint16_t port) {
    struct sockaddr_conn name;
    memset(&name, 0, sizeof name);
    name.sconn_family = AF_CONN;
    name.sconn_port = htons(port);
    name.sconn_addr = address;
    return name;
}

static inline int turnpike_sctp_set(struct socket *socket, int level, int option, const void *value, socklen_t length) {
    return usrsctp_setsockopt(socket, level, option, value, length) == 0 ? 0 : -errno;
}

static inline int turnpike_sctp_subscribe(struct socket *socket) {
    static const uint16_t types[] = {
        SCTP_ASSOC_CHANGE, SCTP_STREAM_RESET_EVENT, SCTP_SENDER_DRY_EVENT, SCTP_PARTIAL_DELIVERY_EVENT,
        SCTP_SHUTDOWN_EVENT,
    };
    for (size_t index = 0; index < sizeof types / sizeof *types; index++) {
        struct sctp_event event = {.se_assoc_id = 0, .se_type = types[index], .se_on = 1};
        int result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_EVENT, &event, sizeof event);
        if (result != 0) return result;
    }
    return 0;
}

// Of the endpoint before it connects, and of the association after.
static inline int turnpike_sctp_set_path(
    struct socket *socket, void *address, uint16_t port, bool is_connected, uint32_t packet_limit,
    const struct turnpike_sctp_options *options
) {
    struct sctp_paddrparams path;
    memset(&path, 0, sizeof path);
    if (is_connected) {
        struct sockaddr_conn name = turnpike_sctp_address(address, port);
        memcpy(&path.spp_address, &name, sizeof name);
    }
    // usrsctp counts what follows the common header.
    path.spp_pathmtu = packet_limit - sizeof(struct sctp_common_header);
    path.spp_hbinterval = options->heartbeat_interval;
    // The only path is not down before the association is.
    path.spp_pathmaxrxt = options->retransmissions;
    path.spp_flags = SPP_PMTUD_DISABLE | SPP_HB_ENABLE;
    return turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, &path, sizeof path);
}

// Data are cut for packets of so many bytes: the endpoint's before it connects, and the association's after.
static inline int turnpike_sctp_set_segment(struct socket *socket, uint32_t packet_limit) {
    // usrsctp adds the headers of SCTP over IPv4 and of a chunk to the value, and takes off SCTP's and the chunk's
    // again, whatever the packets go by.
    const uint32_t headers = 20 + sizeof(struct sctp_common_header) + 16;
    struct sctp_assoc_value value = {.assoc_id = 0, .assoc_value = packet_limit - headers};
    return turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_MAXSEG, &value, sizeof value);
}

static inline int turnpike_sctp_configure(struct socket *socket, const struct turnpike_sctp_options *options) {
    int one = 1, result;
    if (usrsctp_set_non_blocking(socket, 1) != 0) return -errno;
    // Closing is at once, by ABORT: a graceful end is asked for by a shutdown before.
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if ((result = turnpike_sctp_set(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger)) != 0) return result;
    if ((result = turnpike_sctp_set(socket, SOL_SOCKET, SO_SNDBUF, &options->send_buffer, sizeof(int))) != 0)
        return result;
    if ((result = turnpike_sctp_set(socket, SOL_SOCKET, SO_RCVBUF, &options->receive_buffer, sizeof(int))) != 0)
        return result;
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_NODELAY, &one, sizeof one)) != 0) return result;
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_RECVRCVINFO, &one, sizeof one)) != 0) return result;
    uint32_t point = options->partial_delivery_point;
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_PARTIAL_DELIVERY_POINT, &point, sizeof point)) != 0)
        return result;
    struct sctp_assoc_value reset = {.assoc_id = 0, .assoc_value = SCTP_ENABLE_RESET_STREAM_REQ};
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_ENABLE_STREAM_RESET, &reset, sizeof reset)) != 0)
        return result;
    struct sctp_initmsg init = {
        .sinit_num_ostreams = options->streams,
        .sinit_max_instreams = options->streams,
        .sinit_max_attempts = options->init_attempts,
        .sinit_max_init_timeo = (uint16_t)(options->rto_max > UINT16_MAX ? UINT16_MAX : options->rto_max),
    };
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_INITMSG, &init, sizeof init)) != 0) return result;
    struct sctp_rtoinfo rto = {
        .srto_initial = options->rto_initial, .srto_max = options->rto_max, .srto_min = options->rto_min,
    };
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_RTOINFO, &rto, sizeof rto)) != 0) return result;
    struct sctp_assocparams limits = {.sasoc_asocmaxrxt = options->retransmissions};
    if ((result = turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_ASSOCINFO, &limits, sizeof limits)) != 0) return result;
    result = turnpike_sctp_set_path(socket, NULL, 0, false, options->packet_limit, options);
    return result != 0 ? result : turnpike_sctp_subscribe(socket);
}

// A socket bound to an address that was registered, or NULL with the negative errno in `failure`.
static inline struct socket *turnpike_sctp_open(
    void *address, uint16_t port, const struct turnpike_sctp_options *options, turnpike_sctp_upcall upcall, int *failure
) {
    struct socket *socket = usrsctp_socket(AF_CONN, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
    if (socket == NULL) {
        *failure = -errno;
        return NULL;
    }
    struct sockaddr_conn name = turnpike_sctp_address(address, port);
    int result = turnpike_sctp_configure(socket, options);
    if (result == 0 && usrsctp_bind(socket, (struct sockaddr *)&name, sizeof name) != 0) result = -errno;
    if (result == 0 && usrsctp_set_upcall(socket, upcall, address) != 0) result = -errno;
    if (result == 0) return socket;
    *failure = result;
    usrsctp_close(socket);
    return NULL;
}

static inline int turnpike_sctp_connect(struct socket *socket, void *address, uint16_t port) {
    struct sockaddr_conn name = turnpike_sctp_address(address, port);
    if (usrsctp_connect(socket, (struct sockaddr *)&name, sizeof name) == 0 || errno == EINPROGRESS) return 0;
    return -errno;
}

// Nothing more is to be sent: what was given goes out, and then SHUTDOWN.
static inline int turnpike_sctp_shutdown(struct socket *socket) {
    return usrsctp_shutdown(socket, SHUT_WR) == 0 ? 0 : -errno;
}

static inline ssize_t turnpike_sctp_send(
    struct socket *socket, const void *bytes, size_t length, uint16_t stream, uint32_t payload_protocol,
    bool is_unordered, uint16_t policy, uint32_t policy_value
) {
    struct sctp_sendv_spa info;
    memset(&info, 0, sizeof info);
    info.sendv_flags = SCTP_SEND_SNDINFO_VALID;
    info.sendv_sndinfo.snd_sid = stream;
    info.sendv_sndinfo.snd_flags = is_unordered ? SCTP_UNORDERED : 0;
    info.sendv_sndinfo.snd_ppid = htonl(payload_protocol);
    if (policy != SCTP_PR_SCTP_NONE) {
        info.sendv_flags |= SCTP_SEND_PRINFO_VALID;
        info.sendv_prinfo.pr_policy = policy;
        info.sendv_prinfo.pr_value = policy_value;
    }
    ssize_t sent = usrsctp_sendv(socket, bytes, length, NULL, 0, &info, sizeof info, SCTP_SENDV_SPA, 0);
    return sent < 0 ? -errno : sent;
}

static inline ssize_t turnpike_sctp_receive(
    struct socket *socket, void *target, size_t length, struct turnpike_sctp_info *info
) {
    struct sctp_rcvinfo received;
    memset(&received, 0, sizeof received);
    socklen_t size = sizeof received, name_size = 0;
    unsigned int kind = SCTP_RECVV_NOINFO;
    int flags = 0;
    ssize_t count = usrsctp_recvv(socket, target, length, NULL, &name_size, &received, &size, &kind, &flags);
    if (count < 0) return -errno;
    info->stream = received.rcv_sid;
    info->payload_protocol = ntohl(received.rcv_ppid);
    info->is_unordered = (received.rcv_flags & SCTP_UNORDERED) != 0;
    info->is_notification = (flags & MSG_NOTIFICATION) != 0;
    info->is_end = (flags & MSG_EOR) != 0;
    return count;
}

static inline bool turnpike_sctp_is_writable(struct socket *socket) {
    return (usrsctp_get_events(socket) & SCTP_EVENT_WRITE) != 0;
}

static inline bool turnpike_sctp_read_notification(
    const void *bytes, size_t length, struct turnpike_sctp_notification *notification
) {
    struct sctp_tlv header;
    if (length < sizeof header) return false;
    memcpy(&header, bytes, sizeof header);
    memset(notification, 0, sizeof *notification);
    notification->type = header.sn_type;
    notification->flags = header.sn_flags;
    if (header.sn_type == SCTP_ASSOC_CHANGE) {
        struct sctp_assoc_change change;
        if (length < sizeof change) return false;
        memcpy(&change, bytes, sizeof change);
        notification->state = change.sac_state;
        notification->error = change.sac_error;
        notification->outbound_streams = change.sac_outbound_streams;
        notification->inbound_streams = change.sac_inbound_streams;
    }
    return true;
}

// The streams that an SCTP_STREAM_RESET_EVENT names, as many as fit, and how many there are.
static inline size_t turnpike_sctp_reset_streams(const void *bytes, size_t length, uint16_t *streams, size_t limit) {
    const size_t start = offsetof(struct sctp_stream_reset_event, strreset_stream_list);
    if (length < start) return 0;
    size_t count = (length - start) / sizeof(uint16_t);
    memcpy(streams, (const char *)bytes + start, (count < limit ? count : limit) * sizeof(uint16_t));
    return count;
}

static inline int turnpike_sctp_reset_outgoing(struct socket *socket, uint16_t stream) {
    union {
        struct sctp_reset_streams request;
        char space[sizeof(struct sctp_reset_streams) + sizeof(uint16_t)];
    } reset;
    memset(&reset, 0, sizeof reset);
    reset.request.srs_flags = SCTP_STREAM_RESET_OUTGOING;
    reset.request.srs_number_streams = 1;
    memcpy(reset.space + offsetof(struct sctp_reset_streams, srs_stream_list), &stream, sizeof stream);
    return turnpike_sctp_set(socket, IPPROTO_SCTP, SCTP_RESET_STREAMS, &reset, sizeof reset);
}

static inline int turnpike_sctp_status(struct socket *socket, struct sctp_status *status) {
    socklen_t size = sizeof *status;
    memset(status, 0, size);
    return usrsctp_getsockopt(socket, IPPROTO_SCTP, SCTP_STATUS, status, &size) == 0 ? 0 : -errno;
}
