#include "CLinux.h"

#include <ifaddrs.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int turnpike_close(int fd) {
    // Not repeated on EINTR: Linux has released the number by then, and it may already be another thread's.
    return close(fd) < 0 ? -errno : 0;
}

void turnpike_error_text(int number, char *text, size_t bytes) {
    // The GNU form, which may return its own constant instead of filling the buffer.
    const char *found = strerror_r(number, text, bytes);
    if (found != text && bytes > 0) {
        strncpy(text, found, bytes - 1);
        text[bytes - 1] = 0;
    }
}

int turnpike_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int epoll_change(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

int turnpike_epoll_add(int epoll, int fd, uint32_t events, uint64_t data) {
    return epoll_change(epoll, EPOLL_CTL_ADD, fd, events, data);
}

int turnpike_epoll_modify(int epoll, int fd, uint32_t events, uint64_t data) {
    return epoll_change(epoll, EPOLL_CTL_MOD, fd, events, data);
}

int turnpike_epoll_remove(int epoll, int fd) { return epoll_change(epoll, EPOLL_CTL_DEL, fd, 0, 0); }

int turnpike_epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout_milliseconds) {
    int ready = epoll_wait(epoll, events, capacity, timeout_milliseconds);
    if (ready >= 0) return ready;
    // The clock is read only after an interruption, so the ordinary wait costs one call. The first part of the wait
    // is then unknown and is given again; a storm of signals cannot prolong it, as the end is fixed from here on.
    uint64_t end = turnpike_monotonic_nanoseconds() + (uint64_t)(uint32_t)timeout_milliseconds * 1000000ULL;
    while (errno == EINTR) {
        if (timeout_milliseconds > 0) {
            uint64_t now = turnpike_monotonic_nanoseconds();
            timeout_milliseconds = now >= end ? 0 : (int)((end - now + 999999) / 1000000);
        }
        ready = epoll_wait(epoll, events, capacity, timeout_milliseconds);
        if (ready >= 0) return ready;
    }
    return -errno;
}

int turnpike_eventfd_create(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int turnpike_eventfd_signal(int fd) {
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    // EAGAIN says that the counter is at its end, so the reader has been signalled already.
    return written < 0 && errno != EAGAIN ? -errno : 0;
}

int turnpike_eventfd_drain(int fd) {
    uint64_t count;
    ssize_t length;
    do {
        length = read(fd, &count, sizeof count);
    } while (length < 0 && errno == EINTR);
    if (length >= 0) return 1;
    return errno == EAGAIN ? 0 : -errno;
}

void *turnpike_map(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    // A transparent huge page would make 2 MB resident for one small datagram; an older kernel may not know the advice.
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

void turnpike_unmap(void *memory, size_t bytes) { (void)munmap(memory, bytes); }

struct thread_start {
    void (*body)(void *);
    void *context;
    char name[16];
};

static void *run_thread(void *argument) {
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    (void)pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int turnpike_thread_start(const char *name, void (*body)(void *), void *context, unsigned long *thread) {
    _Static_assert(sizeof(pthread_t) == sizeof(unsigned long), "thread handles travel as unsigned long");
    struct thread_start *start = malloc(sizeof *start);
    if (start == NULL) return -ENOMEM;
    *start = (struct thread_start){.body = body, .context = context};
    strncpy(start->name, name, sizeof start->name - 1);
    // A new thread inherits the mask. Signals belong to the thread that handles them, not to a packet loop.
    sigset_t all, before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(thread, NULL, run_thread, start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) free(start);
    return -failure;
}

int turnpike_thread_join(unsigned long thread) { return -pthread_join(thread, NULL); }

int turnpike_thread_detach(unsigned long thread) { return -pthread_detach(thread); }

// The C library has neither the call nor its argument.
struct turnpike_sched_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

int turnpike_thread_yield_to_others(void) {
    struct turnpike_sched_attr attributes = {
        .size = sizeof attributes,
        .policy = SCHED_BATCH,
        // A ninth of the weight of others: enough to go on where they are never idle.
        .nice = 10,
        // A slice of the longest: from Linux 6.12 on, threads with a shorter one interrupt it. Older ones go by the
        // weight.
        .runtime = 100 * 1000 * 1000,
    };
    return syscall(SYS_sched_setattr, 0, &attributes, 0) < 0 ? -errno : 0;
}

// Room for 8,192 CPUs, the most that the kernel can be built for on x86: a smaller set is refused on a larger machine.
#define CPU_SETS (8192 / CPU_SETSIZE)

int turnpike_pin_thread(unsigned int cpu) {
    cpu_set_t sets[CPU_SETS];
    if (cpu >= 8192) return -EINVAL;
    CPU_ZERO_S(sizeof sets, sets);
    CPU_SET_S(cpu, sizeof sets, sets);
    return sched_setaffinity(0, sizeof sets, sets) < 0 ? -errno : 0;
}

int turnpike_available_cpus(unsigned int *cpus, int capacity) {
    cpu_set_t sets[CPU_SETS];
    CPU_ZERO_S(sizeof sets, sets);
    if (sched_getaffinity(0, sizeof sets, sets) < 0) return -errno;
    int count = 0;
    for (unsigned int cpu = 0; cpu < 8192; cpu++) {
        if (!CPU_ISSET_S(cpu, sizeof sets, sets)) continue;
        if (count < capacity) cpus[count] = cpu;
        count++;
    }
    return count;
}

static bool copy_address(turnpike_address *to, const struct sockaddr *from) {
    if (from == NULL) return false;
    if (from->sa_family == AF_INET) {
        memcpy(&to->v4, from, sizeof to->v4);
        to->length = sizeof to->v4;
    } else if (from->sa_family == AF_INET6) {
        memcpy(&to->v6, from, sizeof to->v6);
        to->length = sizeof to->v6;
    } else {
        return false;
    }
    return true;
}

// The directed broadcast address of an IPv4 network. Where none was set, glibc gives the interface's own address in its
// place; the kernel then takes the network's last address for it, as it does for every prefix shorter than 31 bits.
static void set_broadcast(turnpike_interface *entry, const struct ifaddrs *at) {
    turnpike_address mask = {0};
    if (!turnpike_address_is_v4(&entry->address)) return;
    in_addr_t own = entry->address.v4.sin_addr.s_addr;
    if (copy_address(&entry->broadcast, at->ifa_broadaddr) && entry->broadcast.v4.sin_addr.s_addr != own) return;
    entry->broadcast = (turnpike_address){0};
    if (!copy_address(&mask, at->ifa_netmask) || ntohl(~mask.v4.sin_addr.s_addr) < 3) return;
    turnpike_address_set(&entry->broadcast, 0, ntohl(own | ~mask.v4.sin_addr.s_addr), true, 0);
}

int turnpike_interfaces(turnpike_interface *list, int capacity) {
    struct ifaddrs *first;
    if (getifaddrs(&first) < 0) return -errno;
    int count = 0;
    for (const struct ifaddrs *at = first; at != NULL; at = at->ifa_next) {
        turnpike_interface entry = {0};
        if (!copy_address(&entry.address, at->ifa_addr)) continue;
        strncpy(entry.name, at->ifa_name, sizeof entry.name - 1);
        entry.index = if_nametoindex(entry.name);
        entry.is_loopback = (at->ifa_flags & IFF_LOOPBACK) != 0;
        entry.is_up = (at->ifa_flags & IFF_UP) != 0;
        if ((at->ifa_flags & IFF_BROADCAST) != 0) set_broadcast(&entry, at);
        if (count < capacity) list[count] = entry;
        count++;
    }
    freeifaddrs(first);
    return count;
}

int64_t turnpike_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
    }
    return limit.rlim_cur > (rlim_t)INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

int turnpike_random(void *bytes, size_t count) {
    uint8_t *at = bytes;
    while (count > 0) {
        ssize_t got = getrandom(at, count, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        at += got;
        count -= (size_t)got;
    }
    return 0;
}
