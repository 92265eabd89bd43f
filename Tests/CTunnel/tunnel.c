#include "CTunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int make_device(const char *name, bool is_ethernet) {
    struct ifreq request = {.ifr_flags = (is_ethernet ? IFF_TAP : IFF_TUN) | IFF_NO_PI};
    if (strlen(name) >= sizeof request.ifr_name) return -ENAMETOOLONG;
    strcpy(request.ifr_name, name);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -errno;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int tunnel_open(const char *namespace_path, const char *name, bool is_ethernet) {
    if (!namespace_path) return make_device(name, is_ethernet);
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) return -errno;
    int result = 0, away = open(namespace_path, O_RDONLY | O_CLOEXEC);
    if (away < 0) {
        result = -errno;
    } else {
        if (setns(away, CLONE_NEWNET) < 0) {
            result = -errno;
        } else {
            result = make_device(name, is_ethernet);
            if (setns(home, CLONE_NEWNET) < 0 && result >= 0) {
                int error = errno;
                close(result);
                result = -error;
            }
        }
        close(away);
    }
    close(home);
    return result;
}

int tunnel_wait(struct pollfd *list, int count, int64_t nanoseconds) {
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    int found = ppoll(list, (nfds_t)count, nanoseconds < 0 ? NULL : &time, NULL);
    return found < 0 ? errno == EINTR ? 0 : -errno : found;
}

void tunnel_be_punctual(void) {
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    // Refused where there is no right to it; what needs this is less exact then, and works.
    struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &first) < 0) setpriority(PRIO_PROCESS, 0, -20);
}

int64_t tunnel_read(int fd, void *bytes, size_t capacity) {
    ssize_t count = read(fd, bytes, capacity);
    return count < 0 ? -errno : count;
}

int64_t tunnel_write(int fd, const void *bytes, size_t count) {
    ssize_t written = write(fd, bytes, count);
    return written < 0 ? -errno : written;
}
