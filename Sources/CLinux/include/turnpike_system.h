// Everything that is not a datagram: readiness, clocks, threads, memory, interfaces. Negative results are errnos.
#ifndef TURNPIKE_SYSTEM_H
#define TURNPIKE_SYSTEM_H

#include "turnpike_address.h"

#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>

int turnpike_close(int fd);
void turnpike_error_text(int number, char *_Nonnull text, size_t bytes);

int turnpike_epoll_create(void);
int turnpike_epoll_add(int epoll, int fd, uint32_t events, uint64_t data);
int turnpike_epoll_modify(int epoll, int fd, uint32_t events, uint64_t data);
int turnpike_epoll_remove(int epoll, int fd);
// Waits, begins again with the time left when a signal interrupts; a negative timeout waits for ever.
int turnpike_epoll_wait(int epoll, struct epoll_event *_Nonnull events, int capacity, int timeout_milliseconds);

static inline uint32_t turnpike_event_flags(const struct epoll_event *_Nonnull event) { return event->events; }
static inline uint64_t turnpike_event_data(const struct epoll_event *_Nonnull event) { return event->data.u64; }

int turnpike_eventfd_create(void);
int turnpike_eventfd_signal(int fd);
// Returns 1 when there was a signal, 0 when there was none.
int turnpike_eventfd_drain(int fd);

static inline uint64_t turnpike_monotonic_nanoseconds(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static inline uint64_t turnpike_wall_seconds(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec;
}

// Address space whose pages become resident when touched, one small page at a time; NULL when refused.
void *_Nullable turnpike_map(size_t bytes);
void turnpike_unmap(void *_Nonnull memory, size_t bytes);

// Starts a thread that takes no signals. The name is cut to 15 bytes, the kernel's limit.
int turnpike_thread_start(
    const char *_Nonnull name, void (*_Nonnull body)(void *_Nullable), void *_Nullable context,
    unsigned long *_Nonnull thread
);
int turnpike_thread_join(unsigned long thread);
int turnpike_thread_detach(unsigned long thread);
// Has this thread give way to others when they wake up, and take a tenth of the time of one of them where all are busy.
int turnpike_thread_yield_to_others(void);
int turnpike_pin_thread(unsigned int cpu);
// Writes the numbers of the CPUs this thread may use; returns how many there are, which may exceed `capacity`.
int turnpike_available_cpus(unsigned int *_Nullable cpus, int capacity);

typedef struct turnpike_interface {
    char name[IF_NAMESIZE];
    unsigned int index;
    bool is_loopback;
    bool is_up;
    turnpike_address address;
    // Its length is 0 where the interface has no broadcast address.
    turnpike_address broadcast;
} turnpike_interface;

// Writes the interfaces' addresses; returns how many there are, which may exceed `capacity`.
int turnpike_interfaces(turnpike_interface *_Nonnull list, int capacity);

// Raises the soft limit of open descriptors to the hard one and returns it, at most INT64_MAX.
int64_t turnpike_raise_descriptor_limit(void);
int turnpike_random(void *_Nonnull bytes, size_t count);

#endif
