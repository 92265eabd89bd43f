// Sends ChannelData at a steady pace from one socket and measures how long each datagram takes to come out at another.
//
//   latency CLIENT_FD PEER_FD HOST PORT CHANNEL PER_SECOND SECONDS
//
// Both sockets are the caller's, who has made the allocation and bound the channel. It runs before all else on its
// processor where it may, so that what it measures is not how long it waited itself. One JSON line on standard output.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PAYLOAD 160
static int peer_fd;
static long expected;
static long received;
static int64_t *delays;

static int64_t nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Ends when all have come, or none has for a second.
static void *receive_all(void *unused) {
    (void)unused;
    char payload[2048];
    while (received < expected) {
        ssize_t length = recv(peer_fd, payload, sizeof payload, 0);
        int64_t now = nanoseconds_now(), sent;
        if (length < 0 && errno == EINTR) continue;
        if (length < (ssize_t)sizeof sent) return NULL;
        memcpy(&sent, payload, sizeof sent);
        delays[received++] = now - sent;
    }
    return NULL;
}

static int by_size(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: latency CLIENT_FD PEER_FD HOST PORT CHANNEL PER_SECOND SECONDS\n");
        return 64;
    }
    int client_fd = atoi(arguments[1]);
    peer_fd = atoi(arguments[2]);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[4]))};
    if (inet_pton(AF_INET, arguments[3], &server.sin_addr) != 1) return 64;
    double rate = atof(arguments[6]);
    expected = (long)(rate * atof(arguments[7]));
    delays = calloc((size_t)(expected > 0 ? expected : 1), sizeof *delays);
    struct timeval patience = {.tv_sec = 1};
    struct sched_param priority = {.sched_priority = 10};
    sched_setscheduler(0, SCHED_FIFO, &priority);
    pthread_t receiver;
    if (delays == NULL || setsockopt(peer_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        pthread_create(&receiver, NULL, receive_all, NULL) != 0) {
        perror("latency");
        return 1;
    }
    unsigned char datagram[4 + PAYLOAD] = {0};
    uint16_t channel = htons((uint16_t)strtol(arguments[5], NULL, 0)), length = htons(PAYLOAD);
    memcpy(datagram, &channel, 2);
    memcpy(datagram + 2, &length, 2);
    int64_t began = nanoseconds_now();
    for (long number = 0; number < expected; number++) {
        int64_t due = began + (int64_t)((double)number * 1e9 / rate);
        struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
        }
        // The time it was due and not the time it is: a sender that is held up must not hide that from the figures.
        memcpy(datagram + 4, &due, sizeof due);
        if (sendto(client_fd, datagram, sizeof datagram, 0, (struct sockaddr *)&server, sizeof server) < 0) {
            perror("latency: sendto");
            return 1;
        }
    }
    pthread_join(receiver, NULL);
    qsort(delays, (size_t)received, sizeof *delays, by_size);
    double p50 = received ? (double)delays[received / 2] / 1000 : 0;
    double p99 = received ? (double)delays[received * 99 / 100] / 1000 : 0;
    printf("{\"sent\": %ld, \"received\": %ld, \"p50_microseconds\": %.1f, \"p99_microseconds\": %.1f}\n", expected, received,
           p50, p99);
    return 0;
}
