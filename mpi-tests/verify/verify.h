/*
 * What the tests of this program share: the seeded patterns, the checks that count and explain themselves,
 * and the list of tests. A failed check ends the whole job with a message that says which test on which rank,
 * between whom, at which offset, what was expected and what was there.
 */
#ifndef RDGRAM_VERIFY_H
#define RDGRAM_VERIFY_H

#include <mpi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* Of MPI_COMM_WORLD. */
extern int rank, ranks;
/* From the command line; every rank has the same. */
extern uint64_t seed;

/* A call of MPI that has to succeed. */
#define MPI(call)                                                                                            \
    do {                                                                                                     \
        int code_ = (call);                                                                                  \
        if (code_ != MPI_SUCCESS)                                                                            \
            mpi_failed(#call, code_, __FILE__, __LINE__);                                                    \
    } while (0)
void mpi_failed(const char *call, int code, const char *file, int line) __attribute__((noreturn));
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* What comes from where: the name of a pattern. Equal streams give equal bytes on every rank. */
struct stream {
    int source, destination; /* ranks; anything negative for "all" */
    uint64_t number;         /* tells messages between the same two apart */
};

/* Memory that ends the job instead of returning NULL, and is never of size 0. */
void *allocate(size_t length);
/* The bytes of a stream, written or compared. */
void fill(void *buffer, size_t length, struct stream stream);
void check_bytes(const void *buffer, size_t length, struct stream stream);
/* Bytes that nobody may have written. */
enum { UNTOUCHED = 0xa5 };
void check_untouched(const void *buffer, size_t length, const char *where);
/* One 64-bit value of a stream, for reductions. */
int64_t value_of(struct stream stream, size_t index);
void check_value(int64_t actual, int64_t expected, const char *what);
void check_same(const void *actual, const void *expected, size_t length, const char *what);
/* The status of a receive. */
void check_status(const MPI_Status *status, int source, int tag, size_t bytes);

/* Random numbers that are the same on every rank as long as every rank draws the same ones. */
struct random {
    uint64_t state;
};
struct random random_of(uint64_t number);
uint64_t random_next(struct random *random);
size_t random_below(struct random *random, size_t bound);
void random_shuffle(struct random *random, int *items, size_t count);
/* Mostly small, sometimes around a protocol's thresholds, rarely large. */
size_t random_size(struct random *random, size_t largest);

struct test {
    const char *name;
    void (*run)(void);
};
/* One list per file, each ended by an entry without a name. */
extern const struct test sending_tests[], receiving_tests[], datatype_tests[], collective_tests[],
    nonblocking_tests[], onesided_tests[], epoch_tests[], window_tests[], accumulate_tests[], atomic_tests[];

#endif
