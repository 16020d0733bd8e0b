/*
 * patterns: two of the patterns that the Intel MPI Benchmarks time, for MPIs that their binaries do not run on.
 *
 *   mpirun -n N patterns -time SECONDS -iter TIMES -msglog FROM:TO -npmin N PATTERN...
 *
 * A PATTERN is PingPong or Allreduce, sizes are 0 and powers of two, and the tables are printed as IMB prints its
 * own. The bytes of the first and the last exchange of each size are checked.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank, ranks;
static char *sent, *received;

static void fail(const char *what, size_t bytes, size_t at)
{
    fprintf(stderr, "patterns: rank %d, %zu bytes: %s at %zu\n", rank, bytes, what, at);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

static char byte_of(int source, size_t at, int number)
{
    return (char)(at * 7 + at / 251 + (size_t)source * 31 + (size_t)number);
}

static void ping_pong(size_t bytes, int number, int check)
{
    int other = 1 - rank;
    if (rank > 1)
        return;
    for (size_t at = 0; check && at < bytes; at++)
        sent[at] = byte_of(rank, at, number);
    if (rank == 0)
        MPI_Send(sent, (int)bytes, MPI_CHAR, other, 1000, MPI_COMM_WORLD);
    MPI_Recv(received, (int)bytes, MPI_CHAR, other, 1000, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank == 1)
        MPI_Send(sent, (int)bytes, MPI_CHAR, other, 1000, MPI_COMM_WORLD);
    for (size_t at = 0; check && at < bytes; at++)
        if (received[at] != byte_of(other, at, number))
            fail("wrong byte", bytes, at);
}

/* Of floats, as IMB's is; small whole numbers, so that every order of summation gives the same. */
static void allreduce(size_t bytes, int number, int check)
{
    size_t count = bytes / sizeof(float);
    float *mine = (float *)sent, *sums = (float *)received;
    for (size_t at = 0; check && at < count; at++)
        mine[at] = (float)((at + (size_t)number) % 1000 + (size_t)rank);
    MPI_Allreduce(mine, sums, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (size_t at = 0; check && at < count; at++)
        if (sums[at] != (float)((at + (size_t)number) % 1000 * (size_t)ranks + (size_t)(ranks * (ranks - 1) / 2)))
            fail("wrong sum", bytes, at);
}

/* Fewer repetitions of large messages, and no more than there is time for; all ranks decide alike. */
static int repetitions(double one, double time, int most, size_t bytes)
{
    int times = bytes > 1 << 16 ? most / (int)(bytes >> 16) : most;
    if (one * times > time)
        times = (int)(time / one);
    times = times < 2 ? 2 : times;
    MPI_Bcast(&times, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return times;
}

static void measure(void (*pattern)(size_t, int, int), size_t bytes, double time, int most, int half)
{
    double start = MPI_Wtime();
    pattern(bytes, 0, 1);
    int times = repetitions(MPI_Wtime() - start, time, most, bytes);
    MPI_Barrier(MPI_COMM_WORLD);
    start = MPI_Wtime();
    for (int i = 0; i < times; i++)
        pattern(bytes, 0, 0);
    double taken = (MPI_Wtime() - start) * 1e6 / times / (half ? 2 : 1), least, largest, sum;
    MPI_Reduce(&taken, &least, 1, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(&taken, &largest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(&taken, &sum, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    pattern(bytes, 1, 1);
    if (rank == 0 && half)
        printf("%12zu %12d %12.2f %12.2f\n", bytes, times, taken, (double)bytes / taken);
    else if (rank == 0)
        printf("%12zu %12d %12.2f %12.2f %12.2f\n", bytes, times, least, largest, sum / ranks);
    fflush(stdout);
}

/* One pattern with all sizes. */
static void run(const char *name, int from, int to, double time, int most)
{
    int half = strcmp(name, "PingPong") == 0;
    if (!half && strcmp(name, "Allreduce") != 0)
        fail("no such pattern", 0, 0);
    if (rank == 0)
        printf("# Benchmarking %s\n#bytes #repetitions%s\n", name,
               half ? " t[usec] Mbytes/sec" : " t_min[usec] t_max[usec] t_avg[usec]");
    measure(half ? ping_pong : allreduce, 0, time, most, half);
    for (int log = from; log <= to; log++)
        if (half || log >= 2) /* a float has four bytes */
            measure(half ? ping_pong : allreduce, (size_t)1 << log, time, most, half);
}

int main(int argc, char **argv)
{
    double time = 1;
    int most = 100, from = 0, to = 22, first;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (first = 1; first + 1 < argc && argv[first][0] == '-'; first += 2)
        if (strcmp(argv[first], "-time") == 0)
            time = atof(argv[first + 1]);
        else if (strcmp(argv[first], "-iter") == 0)
            most = atoi(argv[first + 1]);
        else if (strcmp(argv[first], "-msglog") == 0)
            sscanf(argv[first + 1], "%d:%d", &from, &to);
        else if (strcmp(argv[first], "-npmin") != 0)
            fail("unknown argument", 0, (size_t)first);
    if (ranks < 2 || to > 30)
        fail("too few ranks or too large sizes", (size_t)ranks, (size_t)to);
    sent = calloc(1, (size_t)1 << to);
    received = calloc(1, (size_t)1 << to);
    if (sent == NULL || received == NULL)
        fail("no memory", (size_t)1 << to, 0);
    if (first >= argc)
        fail("no pattern given", 0, 0);
    for (; first < argc; first++)
        run(argv[first], from, to, time, most);
    if (rank == 0)
        printf("# All processes entering MPI_Finalize\n");
    free(sent);
    free(received);
    MPI_Finalize();
    return 0;
}
