/*
 * What messages cost the processors: two MPI ranks move data in one direction, and both count the processor
 * time they spend. MPI waits by spinning, so the time of both ranks passes whether work is done or not: the
 * figures are what a user's machine is busy for, and user and system time tell where.
 *
 *   transfer SECONDS        two ranks
 *
 * Prints "bench: transfer kind=bandwidth|rate bytes=N window=N messages=N seconds=F user_s=F system_s=F",
 * the times being the sum over both ranks.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LARGEST_WINDOW = 64, DATA_TAG = 1, GRANT_TAG = 2 };

struct section {
    const char *kind;
    int bytes, window;
};

static const struct section SECTIONS[] = {
    {.kind = "bandwidth", .bytes = 1 << 20, .window = 8},
    {.kind = "rate", .bytes = 8, .window = 64},
};

struct times {
    double user, system;
};

static struct times times_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct times){
        .user = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        .system = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
    };
}

/* One window of messages; the receiver's answer says that all have come, and whether to go on. */
static int exchange(const struct section *section, int rank, char *buffer, int go_on)
{
    MPI_Request requests[LARGEST_WINDOW];
    for (int i = 0; i < section->window; i++) {
        char *at = buffer + (size_t)i * (size_t)section->bytes;
        if (rank == 0)
            MPI_Isend(at, section->bytes, MPI_BYTE, 1, DATA_TAG, MPI_COMM_WORLD, &requests[i]);
        else
            MPI_Irecv(at, section->bytes, MPI_BYTE, 0, DATA_TAG, MPI_COMM_WORLD, &requests[i]);
    }
    MPI_Waitall(section->window, requests, MPI_STATUSES_IGNORE);
    if (rank == 0)
        MPI_Recv(&go_on, 1, MPI_INT, 1, GRANT_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    else
        MPI_Send(&go_on, 1, MPI_INT, 0, GRANT_TAG, MPI_COMM_WORLD);
    return go_on;
}

/* The receiver keeps the time. */
static void measure(const struct section *section, int rank, double seconds)
{
    size_t length = (size_t)section->bytes * (size_t)section->window;
    char *buffer = malloc(length);
    if (buffer == NULL) {
        fputs("transfer: no memory\n", stderr);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    memset(buffer, rank + 1, length);
    for (int warm = 0; warm < 20; warm++)
        exchange(section, rank, buffer, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    struct times before = times_now();
    double start = MPI_Wtime();
    double windows = 0;
    while (exchange(section, rank, buffer, MPI_Wtime() - start < seconds))
        windows++;
    double elapsed = MPI_Wtime() - start;
    struct times after = times_now();
    /* Data that did not come makes every figure worthless. */
    if (rank == 1)
        for (size_t i = 0; i < length; i++)
            if (buffer[i] != 1) {
                fprintf(stderr, "transfer: byte %zu is wrong\n", i);
                MPI_Abort(MPI_COMM_WORLD, 1);
            }
    double mine[2] = {after.user - before.user, after.system - before.system}, both[2];
    MPI_Reduce(mine, both, 2, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("bench: transfer kind=%s bytes=%d window=%d messages=%.0f seconds=%.6f user_s=%.6f system_s=%.6f\n",
               section->kind, section->bytes, section->window, (windows + 1) * section->window, elapsed, both[0],
               both[1]);
    free(buffer);
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (argc != 2 || ranks != 2) {
        fputs("usage: transfer SECONDS, with two ranks\n", stderr);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    for (size_t i = 0; i < sizeof SECTIONS / sizeof *SECTIONS; i++)
        measure(&SECTIONS[i], rank, atof(argv[1]));
    MPI_Finalize();
    return 0;
}
