/*
 * The floors of one host: what two of its processes can do at best, without MPI, libfabric or the network.
 *
 *   floor_local SECONDS        for each figure
 *
 * Prints "bench: flag us=HALF_ROUND_TRIP" for a number that goes back and forth through a shared cache line each way,
 * and for every size "bench: memcpy bytes=N mb_s=F" within one process and "bench: process_vm_readv bytes=N mb_s=F"
 * out of another one's memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Two lines: processors fetch them in pairs. */
enum { APART = 128 };
enum { WARM_UP = 1000, TRIPS_PER_CLOCK = 1000, SMALLEST = 4096, LARGEST = 4 << 20 };
static const uint64_t END = UINT64_MAX;

/* Shared by both processes: each writes one flag and watches the other. */
struct flags {
    alignas(APART) _Atomic uint64_t there;
    alignas(APART) _Atomic uint64_t back;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void await(const _Atomic uint64_t *flag, uint64_t value)
{
    while (atomic_load_explicit(flag, memory_order_acquire) != value)
        relax();
}

static void exchange(struct flags *flags, uint64_t value)
{
    atomic_store_explicit(&flags->there, value, memory_order_release);
    await(&flags->back, value);
}

static void measure_flag(struct flags *flags, double seconds)
{
    uint64_t value = 0, trips = 0;
    for (int warm = 0; warm < WARM_UP; warm++)
        exchange(flags, ++value);
    double start = now_seconds(), end;
    do {
        for (int trip = 0; trip < TRIPS_PER_CLOCK; trip++)
            exchange(flags, ++value);
        trips += TRIPS_PER_CLOCK;
        end = now_seconds();
    } while (end - start < seconds);
    printf("bench: flag us=%.4f\n", (end - start) * 1e6 / (double)trips / 2);
    exchange(flags, END);
}

/* Answers until the end, then lives until it is killed, so that its memory can be read. */
__attribute__((noreturn)) static void follow(struct flags *flags)
{
    for (uint64_t value = 0; value != END;) {
        uint64_t next = atomic_load_explicit(&flags->there, memory_order_acquire);
        if (next == value) {
            relax();
            continue;
        }
        value = next;
        atomic_store_explicit(&flags->back, value, memory_order_release);
    }
    for (;;)
        pause();
}

/* One transfer of a buffer: by memcpy, or out of `owner` where there is one. */
static void transfer(pid_t owner, char *target, char *source, size_t bytes)
{
    if (owner == 0) {
        memcpy(target, source, bytes);
        /* What nobody reads need not be copied, in the compiler's eyes. */
        __asm__ volatile("" : : "r"(target) : "memory");
        return;
    }
    struct iovec to = {.iov_base = target, .iov_len = bytes}, from = {.iov_base = source, .iov_len = bytes};
    ssize_t got = process_vm_readv(owner, &to, 1, &from, 1, 0);
    if (got != (ssize_t)bytes)
        die("process_vm_readv of %zu bytes: %s", bytes, got < 0 ? strerror(errno) : "too few");
}

static void measure_copies(const char *name, pid_t owner, char *target, char *source, double seconds)
{
    for (size_t bytes = SMALLEST; bytes <= LARGEST; bytes *= 2) {
        size_t per_clock = 1 + (64 << 10) / bytes;
        uint64_t copies = 0;
        for (size_t warm = 0; warm < per_clock; warm++)
            transfer(owner, target, source, bytes);
        double start = now_seconds(), end;
        do {
            for (size_t copy = 0; copy < per_clock; copy++)
                transfer(owner, target, source, bytes);
            copies += per_clock;
            end = now_seconds();
        } while (end - start < seconds);
        printf("bench: %s bytes=%zu mb_s=%.1f\n", name, bytes, (double)copies * (double)bytes / (end - start) / 1e6);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc == 2 ? atof(argv[1]) : 0;
    if (seconds <= 0) {
        fputs("usage: floor_local SECONDS\n", stderr);
        return 2;
    }
    /* What was measured is not lost with a run that is ended. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct flags *flags =
        mmap(NULL, sizeof *flags, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* As buffers of applications come: from the allocator. */
    char *source = malloc(LARGEST), *target = malloc(LARGEST);
    if (flags == MAP_FAILED || source == NULL || target == NULL)
        die("no memory");
    memset(target, 1, LARGEST);
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        die("fork: %s", strerror(errno));
    if (child == 0) {
        /* The end of the other must be its own, however that comes about. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
            _exit(1);
        memset(source, 2, LARGEST);
        follow(flags);
    }
    /* A child that died would be waited for for ever. */
    alarm((unsigned)(seconds * 60) + 20);
    measure_flag(flags, seconds);
    measure_copies("process_vm_readv", child, target, source, seconds);
    memset(source, 1, LARGEST);
    measure_copies("memcpy", 0, target, source, seconds);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
