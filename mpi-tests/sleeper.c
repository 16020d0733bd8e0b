/*
 * Silence is not death: rank 1 sleeps outside MPI while rank 0 has many small messages and one large one on
 * their way to it. Everything has to arrive, in order, with the right bytes.
 *
 *   mpirun -n 2 sleeper [SECONDS]
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SMALL = 10000, SMALL_BYTES = 40, LARGE_WORDS = 8 << 20 /* 64 MiB */ };

static uint64_t word_at(uint64_t index)
{
    uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 31;
}

static void fail(const char *what, long long at)
{
    fprintf(stderr, "sleeper: FAILED: %s at %lld\n", what, at);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

static void send_all(uint64_t (*small)[SMALL_BYTES / 8], uint64_t *large)
{
    static MPI_Request requests[SMALL + 1];
    for (int i = 0; i < SMALL; i++) {
        for (int j = 0; j < SMALL_BYTES / 8; j++)
            small[i][j] = word_at((uint64_t)i * 8 + (uint64_t)j);
        MPI_Isend(small[i], SMALL_BYTES, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &requests[i]);
    }
    for (uint64_t i = 0; i < LARGE_WORDS; i++)
        large[i] = word_at(i);
    MPI_Isend(large, LARGE_WORDS, MPI_UINT64_T, 1, 2, MPI_COMM_WORLD, &requests[SMALL]);
    MPI_Waitall(SMALL + 1, requests, MPI_STATUSES_IGNORE);
}

static void receive_all(uint64_t *large)
{
    MPI_Recv(large, LARGE_WORDS, MPI_UINT64_T, 0, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (uint64_t i = 0; i < LARGE_WORDS; i++)
        if (large[i] != word_at(i))
            fail("a wrong word in the large message", (long long)i);
    for (int i = 0; i < SMALL; i++) {
        uint64_t small[SMALL_BYTES / 8];
        MPI_Recv(small, SMALL_BYTES, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int j = 0; j < SMALL_BYTES / 8; j++)
            if (small[j] != word_at((uint64_t)i * 8 + (uint64_t)j))
                fail("a wrong word in a small message", i);
    }
}

int main(int argc, char **argv)
{
    int rank, ranks, seconds = argc > 1 ? atoi(argv[1]) : 5;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    uint64_t (*small)[SMALL_BYTES / 8] = malloc(SMALL * sizeof *small), *large = malloc(LARGE_WORDS * sizeof *large);
    if (ranks != 2 || small == NULL || large == NULL)
        fail("two ranks and some memory are needed; ranks", ranks);
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    if (rank == 0) {
        send_all(small, large);
    } else {
        sleep((unsigned)seconds);
        receive_all(large);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        printf("sleeper: %d small messages and one of 64 MiB arrived after %d s of silence, %.1f s in all\n", SMALL,
               seconds, MPI_Wtime() - start);
    free(small);
    free(large);
    MPI_Finalize();
    return 0;
}
