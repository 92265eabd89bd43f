/* A peer of libnice's, driven by lines: see "ICE with libnice" in ../test_libnice.py.
 *
 *     nicepeer controlling|controlled [address=IP]... [stun=IP:PORT] [turn=IP:PORT:USER:PASSWORD] [relay-only]
 *              [regular] [renomination] [consent] [trickle] [tcp]
 *
 * What it has to tell is on standard output, one JSON object a line. It sends back what begins with Q, with an R in its
 * place. */
#include <agent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE_MAX_BYTES = 1200, HEAD_BYTES = 9, REPEAT_MILLISECONDS = 500, LIFE_SECONDS = 60 };

static NiceAgent *agent;
static guint stream;
static GMainLoop *loop;
static gboolean trickles;
static GSList *waiting;

/* One datagram at a time, with its number and bytes that follow from it. */
static struct {
    guint64 number, count;
    guint repeated, broken, timer;
} sending;

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static guint fill(guint64 number, char kind, guint8 *bytes) {
    guint size = HEAD_BYTES + number * 37 % 1100;
    guint64 big = GUINT64_TO_BE(number);
    bytes[0] = (guint8)kind;
    memcpy(bytes + 1, &big, sizeof big);
    for (guint index = HEAD_BYTES; index < size; index++) bytes[index] = (guint8)(number * 31 + index);
    return size;
}

static void transmit(void) {
    guint8 bytes[SIZE_MAX_BYTES];
    guint size = fill(sending.number, 'Q', bytes);
    nice_agent_send(agent, stream, 1, size, (const gchar *)bytes);
}

static gboolean repeat(gpointer data) {
    (void)data;
    sending.repeated++;
    transmit();
    return G_SOURCE_CONTINUE;
}

static void step(void) {
    if (sending.timer) g_source_remove(sending.timer);
    sending.timer = 0;
    if (sending.number == sending.count) {
        say("{\"event\": \"echoed\", \"count\": %" G_GUINT64_FORMAT ", \"repeated\": %u, \"broken\": %u}",
            sending.count, sending.repeated, sending.broken);
        return;
    }
    sending.timer = g_timeout_add(REPEAT_MILLISECONDS, repeat, NULL);
    transmit();
}

static void received(NiceAgent *from, guint id, guint component, guint length, gchar *buffer, gpointer data) {
    (void)from, (void)id, (void)component, (void)data;
    if (length < HEAD_BYTES) return;
    if (buffer[0] == 'Q') {
        buffer[0] = 'R';
        nice_agent_send(agent, stream, 1, length, buffer);
        return;
    }
    guint8 expected[SIZE_MAX_BYTES];
    guint64 number;
    memcpy(&number, buffer + 1, sizeof number);
    number = GUINT64_FROM_BE(number);
    guint size = fill(number, 'R', expected);
    if (size != length || memcmp(expected, buffer, size)) {
        sending.broken++;
    } else if (number == sending.number && sending.timer) {
        sending.number++;
        step();
    }
}

static void tell_credentials(void) {
    gchar *fragment, *password;
    nice_agent_get_local_credentials(agent, stream, &fragment, &password);
    say("{\"event\": \"credentials\", \"fragment\": \"%s\", \"password\": \"%s\"}", fragment, password);
    g_free(fragment);
    g_free(password);
}

static void tell_candidate(NiceCandidate *candidate) {
    gchar *line = nice_agent_generate_local_candidate_sdp(agent, candidate);
    say("{\"event\": \"candidate\", \"line\": \"%s\"}", line + 2);
    g_free(line);
}

static void tell_candidates(void) {
    GSList *all = nice_agent_get_local_candidates(agent, stream, 1);
    for (GSList *item = all; item; item = item->next) tell_candidate(item->data);
    g_slist_free_full(all, (GDestroyNotify)nice_candidate_free);
    say("{\"event\": \"gathered\"}");
}

static void found(NiceAgent *from, NiceCandidate *candidate, gpointer data) {
    (void)from, (void)data;
    if (trickles) tell_candidate(candidate);
}

static void gathered(NiceAgent *from, guint id, gpointer data) {
    (void)from, (void)id, (void)data;
    if (trickles)
        say("{\"event\": \"gathered\"}");
    else
        tell_candidates();
}

static const char *role(void) {
    gboolean controls;
    g_object_get(agent, "controlling-mode", &controls, NULL);
    return controls ? "controlling" : "controlled";
}

static void changed(NiceAgent *from, guint id, guint component, guint state, gpointer data) {
    (void)from, (void)id, (void)component, (void)data;
    say("{\"event\": \"state\", \"state\": \"%s\", \"role\": \"%s\"}", nice_component_state_to_string(state), role());
}

static void selected(NiceAgent *from, guint id, guint component, NiceCandidate *local, NiceCandidate *remote,
                     gpointer data) {
    (void)from, (void)id, (void)component, (void)data;
    static const char *const types[] = {"host", "srflx", "prflx", "relay"};
    gchar one[INET6_ADDRSTRLEN], other[INET6_ADDRSTRLEN];
    nice_address_to_string(&local->addr, one);
    nice_address_to_string(&remote->addr, other);
    say("{\"event\": \"pair\", \"local\": [\"%s\", \"%s\", %u], \"remote\": [\"%s\", \"%s\", %u], \"udp\": %s}",
        types[local->type], one, nice_address_get_port(&local->addr), types[remote->type], other,
        nice_address_get_port(&remote->addr),
        local->transport == NICE_CANDIDATE_TRANSPORT_UDP ? "true" : "false");
}

static void give(GSList *candidates) {
    if (candidates) nice_agent_set_remote_candidates(agent, stream, 1, candidates);
    g_slist_free_full(candidates, (GDestroyNotify)nice_candidate_free);
}

static void obey(gchar *line) {
    gchar **words = g_strsplit(line, " ", 3);
    if (!strcmp(words[0], "remote") && words[1] && words[2]) {
        nice_agent_set_remote_credentials(agent, stream, words[1], words[2]);
    } else if (!strcmp(words[0], "candidate")) {
        gchar *text = g_strconcat("a=", line + strlen("candidate "), NULL);
        NiceCandidate *candidate = nice_agent_parse_remote_candidate_sdp(agent, stream, text);
        g_free(text);
        if (!candidate) {
            say("{\"event\": \"unreadable\", \"line\": \"%s\"}", line);
        } else {
            waiting = g_slist_append(waiting, candidate);
            if (trickles) {
                give(waiting);
                waiting = NULL;
            }
        }
    } else if (!strcmp(words[0], "end")) {
        give(waiting);
        waiting = NULL;
        if (trickles) nice_agent_peer_candidate_gathering_done(agent, stream);
    } else if (!strcmp(words[0], "send") && words[1]) {
        memset(&sending, 0, sizeof sending);
        sending.count = g_ascii_strtoull(words[1], NULL, 10);
        step();
    } else if (!strcmp(words[0], "restart")) {
        nice_agent_restart_stream(agent, stream);
        tell_credentials();
        tell_candidates();
    } else if (!strcmp(words[0], "revoke")) {
        say("{\"event\": \"revoked\", \"done\": %s}", nice_agent_consent_lost(agent, stream, 1) ? "true" : "false");
    }
    g_strfreev(words);
}

static gboolean readable(GIOChannel *channel, GIOCondition condition, gpointer data) {
    (void)condition, (void)data;
    gchar *line;
    gsize length, end;
    if (g_io_channel_read_line(channel, &line, &length, &end, NULL) != G_IO_STATUS_NORMAL) {
        g_main_loop_quit(loop);
        return G_SOURCE_REMOVE;
    }
    line[end] = 0;
    obey(line);
    g_free(line);
    return G_SOURCE_CONTINUE;
}

int main(int count, char **arguments) {
    if (count < 2) return 64;
    alarm(LIFE_SECONDS);
    guint flags = 0;
    gboolean tcp = FALSE, relays_only = FALSE;
    for (int index = 2; index < count; index++) {
        const char *word = arguments[index];
        if (!strcmp(word, "regular")) flags |= NICE_AGENT_OPTION_REGULAR_NOMINATION;
        if (!strcmp(word, "renomination")) flags |= NICE_AGENT_OPTION_SUPPORT_RENOMINATION;
        if (!strcmp(word, "consent")) flags |= NICE_AGENT_OPTION_CONSENT_FRESHNESS;
        if (!strcmp(word, "trickle")) flags |= NICE_AGENT_OPTION_ICE_TRICKLE;
        if (!strcmp(word, "tcp")) tcp = TRUE;
        if (!strcmp(word, "relay-only")) relays_only = TRUE;
    }
    trickles = (flags & NICE_AGENT_OPTION_ICE_TRICKLE) != 0;
    loop = g_main_loop_new(NULL, FALSE);
    agent = nice_agent_new_full(NULL, NICE_COMPATIBILITY_RFC5245, flags);
    g_object_set(agent, "controlling-mode", !strcmp(arguments[1], "controlling"), "upnp", FALSE, "ice-tcp", tcp,
                 "force-relay", relays_only, NULL);
    stream = nice_agent_add_stream(agent, 1);
    nice_agent_set_stream_name(agent, stream, "application");
    for (int index = 2; index < count; index++) {
        gchar **parts = g_strsplit_set(arguments[index], "=:", 6);
        guint length = g_strv_length(parts);
        if (!strncmp(arguments[index], "address=", 8)) {
            NiceAddress address;
            nice_address_init(&address);
            if (!nice_address_set_from_string(&address, arguments[index] + 8)) return 64;
            nice_agent_add_local_address(agent, &address);
        } else if (!strcmp(parts[0], "stun") && length == 3) {
            g_object_set(agent, "stun-server", parts[1], "stun-server-port", (guint)atoi(parts[2]), NULL);
        } else if (!strcmp(parts[0], "turn") && length == 5) {
            nice_agent_set_relay_info(agent, stream, 1, parts[1], (guint)atoi(parts[2]), parts[3], parts[4],
                                      NICE_RELAY_TYPE_TURN_UDP);
        }
        g_strfreev(parts);
    }
    g_signal_connect(agent, "new-candidate-full", G_CALLBACK(found), NULL);
    g_signal_connect(agent, "candidate-gathering-done", G_CALLBACK(gathered), NULL);
    g_signal_connect(agent, "component-state-changed", G_CALLBACK(changed), NULL);
    g_signal_connect(agent, "new-selected-pair-full", G_CALLBACK(selected), NULL);
    nice_agent_attach_recv(agent, stream, 1, NULL, received, NULL);
    tell_credentials();
    if (!nice_agent_gather_candidates(agent, stream)) {
        say("{\"event\": \"failed\"}");
        return 1;
    }
    GIOChannel *input = g_io_channel_unix_new(STDIN_FILENO);
    g_io_channel_set_encoding(input, NULL, NULL);
    /* Lines that were read with the first must not wait for another. */
    g_io_channel_set_buffered(input, TRUE);
    g_io_add_watch(input, G_IO_IN | G_IO_HUP, readable, NULL);
    g_main_loop_run(loop);
    g_object_unref(agent);
    return 0;
}
