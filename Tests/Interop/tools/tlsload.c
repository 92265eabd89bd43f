// TLS clients that the ssl module of Python cannot be, one JSON line each on standard output.
//
//   tlsload handshakes HOST PORT PER_SECOND SECONDS   full handshakes, each on a connection of its own that ends after
//   it tlsload keyupdates HOST PORT COUNT                KeyUpdates in one TLS 1.3 session, until it is ended or all
//   are sent tlsload renegotiate HOST PORT                     a renegotiation in a TLS 1.2 session
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in server;
static SSL_CTX *context;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int fail(const char *what) {
    fprintf(stderr, "tlsload: %s: %s\n", what, errno ? strerror(errno) : "");
    return 1;
}

// A connection, or -1. Nothing waits longer than ten seconds.
static int open_connection(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (struct sockaddr *)&server, sizeof server) != 0) {
        if (fd >= 0) close(fd);
        return -1;
    }
    return fd;
}

// Closed by reset, or ten thousand ports would wait for their minute to pass.
static void close_connection(int fd) {
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static SSL *open_session(int *fd) {
    *fd = open_connection();
    if (*fd < 0) return NULL;
    SSL *ssl = SSL_new(context);
    if (ssl != NULL && SSL_set_fd(ssl, *fd) == 1 && SSL_connect(ssl) == 1) return ssl;
    SSL_free(ssl);
    close_connection(*fd);
    ERR_clear_error();
    return NULL;
}

// Handshakes

#define WORKERS 16
static atomic_long next_number, made, refused;
static double began, per_second;
static long total;

static void *shake_hands(void *unused) {
    (void)unused;
    for (;;) {
        long number = atomic_fetch_add(&next_number, 1);
        if (number >= total) return NULL;
        double wait = began + (double)number / per_second - seconds_now();
        if (wait > 0) {
            struct timespec pause = {.tv_sec = (time_t)wait, .tv_nsec = (long)((wait - (double)(time_t)wait) * 1e9)};
            nanosleep(&pause, NULL);
        }
        int fd;
        SSL *ssl = open_session(&fd);
        if (ssl == NULL) {
            atomic_fetch_add(&refused, 1);
            continue;
        }
        atomic_fetch_add(&made, 1);
        SSL_free(ssl);
        close_connection(fd);
    }
}

static int run_handshakes(double rate, double length) {
    pthread_t threads[WORKERS];
    per_second = rate;
    total = (long)(rate * length);
    began = seconds_now();
    for (int index = 0; index < WORKERS; index++) {
        if (pthread_create(&threads[index], NULL, shake_hands, NULL) != 0) return fail("pthread_create");
    }
    for (int index = 0; index < WORKERS; index++) pthread_join(threads[index], NULL);
    printf("{\"made\": %ld, \"refused\": %ld, \"seconds\": %.3f}\n", atomic_load(&made), atomic_load(&refused),
           seconds_now() - began);
    return 0;
}

// Control records

static int run_key_updates(long count) {
    int fd;
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL *ssl = open_session(&fd);
    if (ssl == NULL) return fail("no session");
    long sent = 0;
    while (sent < count && SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1) sent++;
    // What the server did shows when all that was sent has been looked at: the end of the connection, or silence.
    struct pollfd reading = {.fd = fd, .events = POLLIN};
    char byte;
    int ended = sent < count;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (!ended && poll(&reading, 1, 2000) > 0) {
        int result = SSL_read(ssl, &byte, 1);
        // A session ticket is nothing to read.
        ended = result <= 0 && SSL_get_error(ssl, result) != SSL_ERROR_WANT_READ;
    }
    printf("{\"sent\": %ld, \"ended\": %s}\n", sent, ended ? "true" : "false");
    SSL_free(ssl);
    close_connection(fd);
    return 0;
}

static int run_renegotiation(void) {
    int fd;
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    SSL *ssl = open_session(&fd);
    if (ssl == NULL) return fail("no session");
    // Succeeds only when the server takes part in another handshake.
    int agreed = SSL_renegotiate(ssl) == 1 && SSL_do_handshake(ssl) == 1 && SSL_renegotiate_pending(ssl) == 0;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    printf("{\"renegotiated\": %s, \"reason\": \"%s\"}\n", agreed ? "true" : "false", reason ? reason : "");
    SSL_free(ssl);
    close_connection(fd);
    return 0;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: tlsload handshakes|keyupdates|renegotiate HOST PORT …\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[3]));
    if (inet_pton(AF_INET, arguments[2], &server.sin_addr) != 1) return fail("host");
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) return fail("SSL_CTX_new");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (strcmp(arguments[1], "handshakes") == 0 && count == 6) return run_handshakes(atof(arguments[4]), atof(arguments[5]));
    if (strcmp(arguments[1], "keyupdates") == 0 && count == 5) return run_key_updates(atol(arguments[4]));
    if (strcmp(arguments[1], "renegotiate") == 0) return run_renegotiation();
    return 64;
}
