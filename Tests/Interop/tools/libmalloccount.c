// Counts heap allocations by thread, from inside a program: LD_PRELOAD it, with MALLOC_COUNT_FILE naming a file that
// another process maps to read the counts as they grow.
//
// The file is an array of slots of two 64-bit numbers: a thread id, and how often that thread has allocated. A thread
// takes its slot at its first allocation, so a thread that never allocates has none.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// glibc's own names for what this library stands in front of: no dlsym, which would itself allocate.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

enum { SLOTS = 256 };

struct slot {
    _Atomic uint64_t thread, count;
};

static struct slot *slots;
static _Atomic unsigned used;
static __thread struct slot *mine __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("MALLOC_COUNT_FILE");
    if (!path) return;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *memory = mmap(NULL, SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory != MAP_FAILED) slots = memory;
}

static void count(void) {
    if (!slots) return;
    if (!mine) {
        unsigned number = atomic_fetch_add(&used, 1);
        // Past the last slot threads share it: a count too many, never one too few.
        mine = &slots[number < SLOTS ? number : SLOTS - 1];
        atomic_store(&mine->thread, (uint64_t)syscall(SYS_gettid));
    }
    atomic_fetch_add_explicit(&mine->count, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *pointer, size_t size) {
    count();
    return __libc_realloc(pointer, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    count();
    if (alignment % sizeof(void *) || alignment & (alignment - 1) || !alignment) return EINVAL;
    void *memory = __libc_memalign(alignment, size);
    if (!memory) return ENOMEM;
    *pointer = memory;
    return 0;
}
