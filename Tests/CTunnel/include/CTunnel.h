// What Swift cannot call by itself: variadic ioctl, and waiting with nanoseconds. Negative results are errnos.
#ifndef CTUNNEL_H
#define CTUNNEL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Makes a TAP (`is_ethernet`) or TUN device and returns its descriptor, which does not block; the device goes when that
// is closed. `namespace_path` is such as /run/netns/NAME, or NULL for this process's own namespace. The process must
// have one thread: for a moment it is in the other namespace.
int tunnel_open(const char *_Nullable namespace_path, const char *_Nonnull name, bool is_ethernet);

// As ppoll; waits for ever if `nanoseconds` is negative. Interrupted waits count as over.
int tunnel_wait(struct pollfd *_Nonnull list, int count, int64_t nanoseconds);

// Has the kernel wake this thread when it asked for, and before most others.
void tunnel_be_punctual(void);

int64_t tunnel_read(int fd, void *_Nonnull bytes, size_t capacity);
int64_t tunnel_write(int fd, const void *_Nonnull bytes, size_t count);

#endif
