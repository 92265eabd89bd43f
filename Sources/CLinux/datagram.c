#include "CLinux.h"

#include <errno.h>

_Static_assert(sizeof(turnpike_message) == sizeof(struct mmsghdr), "turnpike_message must be struct mmsghdr");
_Static_assert(offsetof(turnpike_message, length) == offsetof(struct mmsghdr, msg_len), "as above");
_Static_assert(sizeof(turnpike_packet_info6) == sizeof(struct in6_pktinfo), "must be struct in6_pktinfo");
_Static_assert(
    offsetof(turnpike_packet_info6, interface_index) == offsetof(struct in6_pktinfo, ipi6_ifindex), "as above"
);
_Static_assert(
    TURNPIKE_SEND_CONTROL_BYTES >= CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t)),
    "a send needs room for its source and its segment size"
);

int turnpike_receive(int fd, turnpike_message *messages, turnpike_arrival *arrivals, unsigned int count) {
    for (unsigned int i = 0; i < count; i++) {
        struct msghdr *header = &messages[i].header;
        header->msg_namelen = sizeof(struct sockaddr_in6);
        header->msg_controllen = TURNPIKE_RECEIVE_CONTROL_BYTES;
        header->msg_flags = 0;
    }
    int received;
    do {
        if (count == 1) {
            ssize_t length = recvmsg(fd, &messages[0].header, MSG_DONTWAIT);
            messages[0].length = length < 0 ? 0 : (unsigned int)length;
            received = length < 0 ? -1 : 1;
        } else {
            received = recvmmsg(fd, (struct mmsghdr *)messages, count, MSG_DONTWAIT, NULL);
        }
    } while (received < 0 && errno == EINTR);
    if (received < 0) return -errno;
    for (int i = 0; i < received; i++) {
        // The source is then a whole address, which an answer can be sent to as it stands, scope included.
        ((turnpike_address *)messages[i].header.msg_name)->length = messages[i].header.msg_namelen;
        turnpike_parse_control(&messages[i].header, &arrivals[i]);
    }
    return received;
}

int turnpike_send(int fd, turnpike_message *messages, unsigned int count) {
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    int sent;
    do {
        if (count == 1) {
            sent = sendmsg(fd, &messages[0].header, flags) < 0 ? -1 : 1;
        } else {
            sent = sendmmsg(fd, (struct mmsghdr *)messages, count, flags);
        }
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}
