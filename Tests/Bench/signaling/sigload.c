// Many signaling clients in one thread: WebSocket over TLS, one epoll, no library above OpenSSL.
//
//   sigload HOST PORT CERTIFICATE USERS COUNT [SHAPE]
//
// USERS is a file of lines `username password`; a time-limited username `expiry:name` stands for `name`. Opens COUNT
// connections, says hello and registers `name/number` on each. SHAPE is how the upgrade leaves: `whole` in one segment
// with the end of the handshake, `half` with half of its head there and half later, `eager` with hello behind the head,
// all at once. Then it takes one command a line on standard input, and answers each by a line of JSON:
//
//   run RATE WINDOW SECONDS BYTES   the first half of the connections sends to the second half, RATE messages a second
//   in all;
//                                   with RATE 0 as fast as WINDOW messages a pair under way allow
//   ping                            one message on each connection, and how many are answered within ten seconds
//   pass BYTES                      one message of each pair, and how many arrive within ten seconds
//   wait SECONDS                    reads what comes
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum stage { SHAKING, UPGRADING, GREETING, REGISTERING, READY, GONE };
enum shape { WHOLE, HALF, EAGER };
struct user { char username[160], password[160]; const char *name; };
struct client {
    int fd, number, wants_out;
    enum stage stage;
    SSL *ssl;
    BIO *out;
    unsigned char *in, *offer;
    size_t in_count, offer_count, stamp_at;
    int offer_bytes;
    uint8_t mask[4];
    int under_way;
    uint64_t began;
};

#define OPENING_MAX 64
#define LATENCIES_MAX 20000000
#define QUEUED_MAX 262144
static struct sockaddr_in server;
static SSL_CTX *context;
static struct user *users;
static struct client *clients;
static int user_count, client_count, opened, opening, ready, poller, pairs, window;
static enum shape shape;
static long sent, received, unsent, errors, limited, pongs, closes, failures, policy_closes;
static uint32_t *latencies, slowest_opening;
static char *filler;
static int is_running;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "sigload: %s: %s\n", what, errno ? strerror(errno) : "");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void drop(struct client *client) {
    if (client->stage == GONE) return;
    if (client->stage != READY) {
        opening--;
        failures++;
        if (getenv("SIGLOAD_VERBOSE")) fprintf(stderr, "sigload: connection %d ended in stage %d\n", client->number, client->stage);
    } else {
        ready--;
        closes++;
    }
    client->stage = GONE;
    SSL_free(client->ssl);
    close(client->fd);
    free(client->in);
    free(client->offer);
    client->in = client->offer = NULL;
    ERR_clear_error();
}

static void flush_out(struct client *client) {
    char *bytes;
    long count;
    while (client->stage != GONE && (count = BIO_get_mem_data(client->out, &bytes)) > 0) {
        ssize_t taken = send(client->fd, bytes, (size_t)count, MSG_NOSIGNAL);
        if (taken < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (taken < 0) { drop(client); return; }
        // A memory BIO gives its first bytes up by being read.
        char sink[65536];
        for (ssize_t left = taken; left > 0;) left -= BIO_read(client->out, sink, left > 65536 ? 65536 : (int)left);
    }
    if (client->stage == GONE) return;
    int wants = BIO_ctrl_pending(client->out) > 0;
    if (wants != client->wants_out) {
        struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = client};
        epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
        client->wants_out = wants;
    }
}

static void seal(struct client *client, const void *bytes, size_t count) {
    if (SSL_write(client->ssl, bytes, (int)count) <= 0) ERR_clear_error();
}

// Writes a masked frame of one text.
static size_t make_frame(unsigned char *made, const uint8_t *mask, int opcode, const char *text, size_t count) {
    size_t head = 2;
    made[0] = (unsigned char)(0x80 | opcode);
    if (count < 126) {
        made[1] = (unsigned char)(0x80 | count);
    } else {
        made[1] = 0x80 | 126;
        made[2] = (unsigned char)(count >> 8);
        made[3] = (unsigned char)count;
        head = 4;
    }
    memcpy(made + head, mask, 4);
    head += 4;
    for (size_t index = 0; index < count; index++) made[head + index] = (unsigned char)text[index] ^ mask[index & 3];
    return head + count;
}

static void frame(struct client *client, int opcode, const char *text, size_t count) {
    static unsigned char made[131072];
    seal(client, made, make_frame(made, client->mask, opcode, text, count));
}

static const struct user *user_of(const struct client *client) { return &users[client->number % user_count]; }

static void say_hello(struct client *client) {
    char text[512];
    const struct user *user = user_of(client);
    int count = snprintf(text, sizeof text, "{\"type\":\"hello\",\"username\":\"%s\",\"password\":\"%s\"}", user->username, user->password);
    frame(client, 1, text, (size_t)count);
}

static void say_register(struct client *client) {
    char text[512];
    int count = snprintf(text, sizeof text, "{\"type\":\"register\",\"peerId\":\"%s/%d\"}", user_of(client)->name, client->number);
    frame(client, 1, text, (size_t)count);
}

// An offer differs from the client's last one by its time alone, so the frame is made once: the generator must be able
// to offer several times what the server takes.
static void prepare_offer(struct client *client, int bytes) {
    static char text[131072];
    struct client *target = &clients[client->number + pairs];
    int count = snprintf(text, sizeof text,
        "{\"type\":\"offer\",\"from\":\"%s/%d\",\"to\":\"%s/%d\",\"offer\":{\"t\":\"%020d\",\"sdp\":\"%.*s\"}}",
        user_of(client)->name, client->number, user_of(target)->name, target->number, 0, bytes, filler);
    free(client->offer);
    client->offer = malloc((size_t)count + 16);
    if (client->offer == NULL) die("memory");
    client->offer_count = make_frame(client->offer, client->mask, 1, text, (size_t)count);
    client->stamp_at = (size_t)(strstr(text, "\"t\":\"") + 5 - text);
    client->offer_bytes = bytes;
}

static void forward(struct client *client, int bytes) {
    if (client->stage != READY) { unsent++; return; }
    if (BIO_ctrl_pending(client->out) > QUEUED_MAX) { unsent++; return; }
    if (client->offer == NULL || client->offer_bytes != bytes) prepare_offer(client, bytes);
    unsigned char *stamp = client->offer + client->offer_count;
    size_t text_count = client->offer_count - (client->offer[1] == (0x80 | 126) ? 8 : 6);
    stamp -= text_count - client->stamp_at;
    uint64_t now = now_ns();
    for (size_t digit = 20; digit-- > 0; now /= 10)
        stamp[digit] = (unsigned char)('0' + now % 10) ^ client->mask[(client->stamp_at + digit) & 3];
    seal(client, client->offer, client->offer_count);
    client->under_way++;
    sent++;
}

static int run_bytes;

static void take_message(struct client *client, const unsigned char *text, size_t count) {
#define IS(kind) (memmem(text, count < 40 ? count : 40, "\"type\":\"" kind "\"", sizeof "\"type\":\"" kind "\"" - 1) != NULL)
    if (IS("offer")) {
        const unsigned char *stamp = memmem(text, count, "\"t\":\"", 5);
        if (stamp == NULL || !is_running) return;
        uint64_t micro = (now_ns() - strtoull((const char *)stamp + 5, NULL, 10)) / 1000;
        if (received < LATENCIES_MAX) latencies[received] = micro > UINT32_MAX ? UINT32_MAX : (uint32_t)micro;
        received++;
        if (window > 0) {
            struct client *sender = &clients[client->number - pairs];
            sender->under_way--;
            forward(sender, run_bytes);
            if (sender->stage != GONE) flush_out(sender);
        }
    } else if (IS("pong")) {
        pongs++;
    } else if (IS("welcome")) {
        if (client->stage == GREETING) client->stage = REGISTERING;
        say_register(client);
    } else if (IS("registered")) {
        if (client->stage != REGISTERING) return;
        client->stage = READY;
        uint32_t took = (uint32_t)((now_ns() - client->began) / 1000000);
        if (took > slowest_opening) slowest_opening = took;
        opening--;
        ready++;
    } else if (IS("error")) {
        errors++;
        if (memmem(text, count, "\"rate-limited\"", 14) != NULL) limited += memmem(text, count, "\"retryAfterMs\":", 15) != NULL;
        else if (getenv("SIGLOAD_VERBOSE")) fprintf(stderr, "sigload: %.*s\n", (int)count, (const char *)text);
        // A connection that is refused its peer id would wait for ever.
        if (client->stage != READY && client->stage != GONE) drop(client);
    }
}

static size_t take_frame(struct client *client, const unsigned char *bytes, size_t count) {
    if (count < 2) return 0;
    size_t length = bytes[1] & 127, head = 2;
    if (length == 126) {
        if (count < 4) return 0;
        length = (size_t)bytes[2] << 8 | bytes[3];
        head = 4;
    } else if (length == 127) {
        if (count < 10) return 0;
        length = 0;
        for (int index = 2; index < 10; index++) length = length << 8 | bytes[index];
        head = 10;
    }
    if (count - head < length) return 0;
    switch (bytes[0] & 15) {
    case 1: take_message(client, bytes + head, length); break;
    case 8:
        if (length >= 2 && (bytes[head] << 8 | bytes[head + 1]) == 1008) policy_closes++;
        break;
    case 9: frame(client, 10, (const char *)bytes + head, length); break;
    }
    return head + length;
}

static const char *upgrade_head(void) {
    return "GET /signal HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
}

// Returns how many of the bytes it took.
static size_t digest_input(struct client *client, unsigned char *bytes, size_t count) {
    size_t done = 0;
    if (client->stage == UPGRADING) {
        unsigned char *end = memmem(bytes, count, "\r\n\r\n", 4);
        if (end == NULL) return 0;
        if (count < 12 || memcmp(bytes + 9, "101", 3) != 0) { drop(client); return 0; }
        done = (size_t)(end + 4 - bytes);
        client->stage = GREETING;
        if (shape != EAGER) say_hello(client);
    }
    while (client->stage != GONE) {
        size_t taken = take_frame(client, bytes + done, count - done);
        if (taken == 0) break;
        done += taken;
    }
    return done;
}

static void begin_upgrade(struct client *client) {
    const char *head = upgrade_head();
    size_t length = strlen(head), first = shape == HALF ? length / 2 : length;
    client->stage = UPGRADING;
    seal(client, head, first);
    if (shape == EAGER) say_hello(client);
    if (shape == HALF) {
        flush_out(client);
        if (client->stage != GONE) seal(client, head + first, length - first);
    }
}

static void take_input(struct client *client) {
    if (client->stage == SHAKING) {
        int result = SSL_do_handshake(client->ssl);
        if (result == 1) {
            begin_upgrade(client);
        } else if (SSL_get_error(client->ssl, result) != SSL_ERROR_WANT_READ) {
            if (getenv("SIGLOAD_VERBOSE")) ERR_print_errors_fp(stderr);
            drop(client);
            return;
        }
    }
    if (client->stage == GONE || client->stage == SHAKING) {
        if (client->stage != GONE) flush_out(client);
        return;
    }
    // All connections read into the same memory, and keep what is half a frame only.
    static unsigned char bytes[262144];
    size_t have = client->in_count;
    if (have > 0) memcpy(bytes, client->in, have);
    free(client->in);
    client->in = NULL;
    client->in_count = 0;
    for (;;) {
        int count = SSL_read(client->ssl, bytes + have, (int)(sizeof bytes - have));
        if (count <= 0) {
            int reason = SSL_get_error(client->ssl, count);
            if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) { drop(client); return; }
            ERR_clear_error();
            break;
        }
        have += (size_t)count;
        size_t done = digest_input(client, bytes, have);
        if (client->stage == GONE) return;
        have -= done;
        memmove(bytes, bytes + done, have);
        if (have == sizeof bytes) die("a frame is too long");
    }
    if (have > 0) {
        client->in = malloc(have);
        if (client->in == NULL) die("memory");
        memcpy(client->in, bytes, have);
        client->in_count = have;
    }
    if (client->stage != GONE) flush_out(client);
}

static void open_one(void) {
    struct client *client = &clients[opened];
    client->number = opened++;
    client->stage = SHAKING;
    client->began = now_ns();
    opening++;
    RAND_bytes(client->mask, 4);
    client->mask[0] |= 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0) die("socket; raise the limit of open files");
    int one = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) != 0) die("connect");
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    client->ssl = SSL_new(context);
    client->out = BIO_new(BIO_s_mem());
    SSL_set_bio(client->ssl, BIO_new_socket(client->fd, BIO_NOCLOSE), client->out);
    SSL_set_connect_state(client->ssl);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
    take_input(client);
    if (client->stage != GONE) flush_out(client);
}

static void turn(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    for (int index = 0; index < count; index++) {
        struct client *client = events[index].data.ptr;
        if (client->stage == GONE) continue;
        if (events[index].events & EPOLLOUT) flush_out(client);
        if (client->stage != GONE && events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_input(client);
    }
}

static int by_value(const void *one, const void *other) {
    uint32_t left = *(const uint32_t *)one, right = *(const uint32_t *)other;
    return left < right ? -1 : left > right;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void run(double rate, int wide, double length, int bytes) {
    sent = received = unsent = errors = limited = policy_closes = 0;
    long closed_before = closes;
    double cpu_before = cpu_seconds();
    window = rate > 0 ? 0 : wide;
    run_bytes = bytes;
    is_running = 1;
    uint64_t began = now_ns(), end = began + (uint64_t)(length * 1e9);
    for (int index = 0; index < pairs; index++) clients[index].under_way = 0;
    for (int index = 0; index < pairs && window > 0; index++) {
        for (int message = 0; message < window; message++) forward(&clients[index], bytes);
        if (clients[index].stage != GONE) flush_out(&clients[index]);
    }
    long due = 0;
    while (now_ns() < end) {
        long wanted = rate > 0 ? (long)((double)(now_ns() - began) / 1e9 * rate) : 0;
        // What a slow generator could not offer in time is not offered in a heap later.
        if (wanted - due > 4 * pairs) { unsent += wanted - due - 4 * pairs; due = wanted - 4 * pairs; }
        for (; due < wanted; due++) {
            struct client *client = &clients[due % pairs];
            forward(client, bytes);
            if (client->stage != GONE) flush_out(client);
        }
        turn(1);
    }
    long in_time = received;
    double cpu = cpu_seconds() - cpu_before;
    window = 0;
    // What is on its way still counts as delivered, not as goodput.
    for (uint64_t silence = now_ns(), seen = (uint64_t)received; now_ns() - silence < 1000000000u && received < sent; turn(10)) {
        if ((uint64_t)received != seen) { seen = (uint64_t)received; silence = now_ns(); }
    }
    is_running = 0;
    long known = received < LATENCIES_MAX ? received : LATENCIES_MAX;
    qsort(latencies, (size_t)known, sizeof *latencies, by_value);
    printf("{\"sent\": %ld, \"in_time\": %ld, \"received\": %ld, \"unsent\": %ld, \"errors\": %ld, \"rate_limited\": %ld, "
           "\"policy_closes\": %ld, \"closed\": %ld, \"seconds\": %.3f, \"generator_cpu_seconds\": %.3f, \"p50_us\": %u, \"p99_us\": %u}\n",
           sent, in_time, received, unsent, errors, limited, policy_closes, closes - closed_before, length, cpu,
           known ? latencies[known / 2] : 0, known ? latencies[known * 99 / 100] : 0);
}

static void ping_all(void) {
    pongs = 0;
    long asked = 0;
    for (int index = 0; index < client_count; index++) {
        if (clients[index].stage != READY) continue;
        frame(&clients[index], 1, "{\"type\":\"ping\"}", 15);
        asked++;
        flush_out(&clients[index]);
        if (index % 64 == 0) turn(0);
    }
    for (uint64_t end = now_ns() + 10000000000u; pongs < asked && now_ns() < end;) turn(50);
    printf("{\"asked\": %ld, \"answered\": %ld, \"closed\": %ld}\n", asked, pongs, closes);
}

static void pass_all(int bytes) {
    sent = received = unsent = 0;
    window = 0;
    is_running = 1;
    for (int index = 0; index < pairs; index++) {
        forward(&clients[index], bytes);
        if (clients[index].stage != GONE) flush_out(&clients[index]);
        if (index % 64 == 0) turn(0);
    }
    for (uint64_t end = now_ns() + 10000000000u; received < sent && now_ns() < end;) turn(50);
    is_running = 0;
    printf("{\"sent\": %ld, \"received\": %ld, \"unsent\": %ld, \"closed\": %ld}\n", sent, received, unsent, closes);
}

static void read_users(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) die(path);
    users = calloc(1000, sizeof *users);
    while (user_count < 1000 && fscanf(file, "%159s %159s", users[user_count].username, users[user_count].password) == 2) {
        const char *colon = strchr(users[user_count].username, ':');
        users[user_count].name = colon ? colon + 1 : users[user_count].username;
        user_count++;
    }
    fclose(file);
    if (user_count == 0) die("no users");
}

int main(int count, char **arguments) {
    if (count < 6) {
        fprintf(stderr, "usage: sigload HOST PORT CERTIFICATE USERS COUNT [whole|half|eager]\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[2]));
    if (inet_pton(AF_INET, arguments[1], &server.sin_addr) != 1) die("host");
    read_users(arguments[4]);
    client_count = atoi(arguments[5]);
    if (count > 6) shape = strcmp(arguments[6], "half") == 0 ? HALF : strcmp(arguments[6], "eager") == 0 ? EAGER : WHOLE;
    pairs = client_count / 2;
    clients = calloc((size_t)client_count + 1, sizeof *clients);
    latencies = malloc(LATENCIES_MAX * sizeof *latencies);
    filler = malloc(65537);
    if (clients == NULL || latencies == NULL || filler == NULL) die("memory");
    const char *line = "a=candidate:1 1 udp 2113937151 192.0.2.1 54400 typ host\\r\\n";
    size_t line_length = strlen(line);
    for (size_t index = 0; index < 65536; index++) filler[index] = line[index % line_length];
    filler[65536] = 0;
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_load_verify_locations(context, arguments[3], NULL) != 1) die("certificate");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    uint64_t began = now_ns(), end = began + 300000000000u;
    while (ready + failures < client_count && now_ns() < end) {
        while (opened < client_count && opening < OPENING_MAX) open_one();
        turn(20);
    }
    printf("{\"ready\": %d, \"failed\": %ld, \"seconds\": %.3f, \"slowest_ms\": %u}\n", ready, failures,
           (double)(now_ns() - began) / 1e9, slowest_opening);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char command[256];
    size_t filled = 0;
    for (;;) {
        ssize_t more = read(0, command + filled, sizeof command - 1 - filled);
        if (more == 0) return 0;
        if (more > 0) filled += (size_t)more;
        command[filled] = 0;
        char *newline = strchr(command, '\n');
        if (newline == NULL) { turn(20); continue; }
        *newline = 0;
        double rate, length;
        int wide, bytes;
        if (sscanf(command, "run %lf %d %lf %d", &rate, &wide, &length, &bytes) == 4) {
            if (bytes < 0 || bytes > 65000) die("bytes");
            // A backslash at the cut would swallow the quote behind it.
            if (bytes > 0 && filler[bytes - 1] == '\\') bytes--;
            run(rate, wide, length, bytes);
        } else if (strcmp(command, "ping") == 0) {
            ping_all();
        } else if (sscanf(command, "pass %d", &bytes) == 1) {
            if (bytes < 0 || bytes > 60000) die("bytes");
            pass_all(bytes > 0 && filler[bytes - 1] == '\\' ? bytes - 1 : bytes);
        } else if (sscanf(command, "wait %lf", &length) == 1) {
            for (uint64_t until = now_ns() + (uint64_t)(length * 1e9); now_ns() < until;) turn(20);
            printf("{\"ready\": %d, \"closed\": %ld}\n", ready, closes);
        } else {
            die("unknown command");
        }
        filled -= (size_t)(newline + 1 - command);
        memmove(command, newline + 1, filled);
    }
}
