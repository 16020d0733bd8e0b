/*
 * Non-blocking collectives: all of them outstanding at once, on two communicators, with point-to-point
 * messages between them, completed in whatever order they end.
 */
#include "verify.h"

enum { MOST = 64 };

/* Everything one collective needs until it is complete. */
struct pending {
    MPI_Request request;
    uint8_t *out, *in;
    int *shares, *places;
    MPI_Datatype *types;
    void (*check)(struct pending *);
    struct stream stream;
    size_t count;
    int root;
};

static MPI_Comm comm;
static int me, members;
static struct pending pending[MOST];
static int started;
static uint64_t number;

static struct stream of(struct pending *one, int source, int destination)
{
    return (struct stream){source, destination, one->stream.number};
}

static struct pending *start(size_t count, void (*check)(struct pending *))
{
    if (started == MOST)
        fail("the list of pending collectives is full");
    struct pending *one = &pending[started++];
    size_t room = (count + 16) * (size_t)members * sizeof(int64_t);
    *one = (struct pending){.request = MPI_REQUEST_NULL, .check = check, .count = count,
                            .root = (int)(number % (uint64_t)members), .stream.number = 500 + number};
    number++;
    one->out = allocate(room);
    one->in = allocate(room);
    memset(one->in, UNTOUCHED, room);
    one->shares = allocate((size_t)members * sizeof(int));
    one->places = allocate((size_t)members * sizeof(int));
    one->types = allocate((size_t)members * sizeof *one->types);
    for (int member = 0; member < members; member++) {
        one->shares[member] = (int)count + member;
        one->places[member] = member * ((int)count + 16);
        one->types[member] = MPI_BYTE;
    }
    return one;
}

static void put_values(struct pending *one, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value = value_of(of(one, me, -1), i);
        memcpy(one->out + i * sizeof value, &value, sizeof value);
    }
}

static void check_sums(struct pending *one, int last, size_t first, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        int64_t sum = 0, actual;
        for (int member = 0; member <= last; member++)
            sum += value_of(of(one, member, -1), first + i);
        memcpy(&actual, one->in + i * sizeof actual, sizeof actual);
        check_value(actual, sum, what);
    }
}

static void check_nothing(struct pending *one)
{
    (void)one;
}

static void check_bcast(struct pending *one)
{
    check_bytes(me == one->root ? one->out : one->in, one->count, of(one, one->root, -1));
}

static void check_reduce(struct pending *one)
{
    if (me == one->root)
        check_sums(one, members - 1, 0, one->count, "ireduce");
}

static void check_allreduce(struct pending *one)
{
    check_sums(one, members - 1, 0, one->count, "iallreduce");
}

static void check_scan(struct pending *one)
{
    check_sums(one, me, 0, one->count, "iscan");
}

static void check_exscan(struct pending *one)
{
    if (me > 0)
        check_sums(one, me - 1, 0, one->count, "iexscan");
}

static void check_block(struct pending *one)
{
    check_sums(one, members - 1, (size_t)me * one->count, one->count, "ireduce_scatter_block");
}

static void check_reduce_scatter(struct pending *one)
{
    size_t first = 0;
    for (int member = 0; member < me; member++)
        first += (size_t)one->shares[member];
    check_sums(one, members - 1, first, (size_t)one->shares[me], "ireduce_scatter");
}

/* From everyone, equal or uneven shares. */
static void check_gathered(struct pending *one)
{
    for (int member = 0; member < members; member++)
        check_bytes(one->in + (size_t)member * one->count, one->count, of(one, member, -1));
}

static void check_gathered_uneven(struct pending *one)
{
    for (int member = 0; member < members; member++)
        check_bytes(one->in + one->places[member], (size_t)one->shares[member], of(one, member, -1));
}

static void check_gather(struct pending *one)
{
    if (me == one->root)
        check_gathered(one);
}

static void check_gatherv(struct pending *one)
{
    if (me == one->root)
        check_gathered_uneven(one);
}

static void check_scatter(struct pending *one)
{
    check_bytes(one->in, one->count, of(one, one->root, me));
}

static void check_scatterv(struct pending *one)
{
    check_bytes(one->in, (size_t)one->shares[me], of(one, one->root, me));
}

static void check_alltoall(struct pending *one)
{
    for (int member = 0; member < members; member++)
        check_bytes(one->in + (size_t)member * one->count, one->count, of(one, member, me));
}

/* In the uneven forms everyone sends `places`-spaced blocks of equal size, which both sides know. */
static void check_alltoallv(struct pending *one)
{
    for (int member = 0; member < members; member++)
        check_bytes(one->in + one->places[member], one->count, of(one, member, me));
}

static void start_rooted(size_t count)
{
    struct pending *one = start(count, check_nothing);
    MPI(MPI_Ibarrier(comm, &one->request));

    one = start(count, check_bcast);
    fill(one->out, count, of(one, one->root, -1));
    MPI(MPI_Ibcast(me == one->root ? one->out : one->in, (int)count, MPI_BYTE, one->root, comm, &one->request));

    one = start(count, check_reduce);
    put_values(one, count);
    MPI(MPI_Ireduce(one->out, one->in, (int)count, MPI_INT64_T, MPI_SUM, one->root, comm, &one->request));

    one = start(count, check_gather);
    fill(one->out, count, of(one, me, -1));
    MPI(MPI_Igather(one->out, (int)count, MPI_BYTE, one->in, (int)count, MPI_BYTE, one->root, comm, &one->request));

    one = start(count, check_gatherv);
    fill(one->out, (size_t)one->shares[me], of(one, me, -1));
    MPI(MPI_Igatherv(one->out, one->shares[me], MPI_BYTE, one->in, one->shares, one->places, MPI_BYTE, one->root, comm,
                     &one->request));

    one = start(count, check_scatter);
    for (int member = 0; member < members; member++)
        fill(one->out + (size_t)member * count, count, of(one, me, member));
    MPI(MPI_Iscatter(one->out, (int)count, MPI_BYTE, one->in, (int)count, MPI_BYTE, one->root, comm, &one->request));

    one = start(count, check_scatterv);
    for (int member = 0; member < members; member++)
        fill(one->out + one->places[member], (size_t)one->shares[member], of(one, me, member));
    MPI(MPI_Iscatterv(one->out, one->shares, one->places, MPI_BYTE, one->in, one->shares[me], MPI_BYTE, one->root, comm,
                      &one->request));
}

static void start_rootless(size_t count)
{
    struct pending *one = start(count, check_allreduce);
    put_values(one, count);
    MPI(MPI_Iallreduce(one->out, one->in, (int)count, MPI_INT64_T, MPI_SUM, comm, &one->request));

    one = start(count, check_gathered);
    fill(one->out, count, of(one, me, -1));
    MPI(MPI_Iallgather(one->out, (int)count, MPI_BYTE, one->in, (int)count, MPI_BYTE, comm, &one->request));

    one = start(count, check_gathered_uneven);
    fill(one->out, (size_t)one->shares[me], of(one, me, -1));
    MPI(MPI_Iallgatherv(one->out, one->shares[me], MPI_BYTE, one->in, one->shares, one->places, MPI_BYTE, comm,
                        &one->request));

    one = start(count, check_alltoall);
    for (int member = 0; member < members; member++)
        fill(one->out + (size_t)member * count, count, of(one, me, member));
    MPI(MPI_Ialltoall(one->out, (int)count, MPI_BYTE, one->in, (int)count, MPI_BYTE, comm, &one->request));

    for (int w = 0; w < 2; w++) {
        one = start(count, check_alltoallv);
        for (int member = 0; member < members; member++) {
            one->shares[member] = (int)count;
            fill(one->out + one->places[member], count, of(one, me, member));
        }
        if (w)
            MPI(MPI_Ialltoallw(one->out, one->shares, one->places, one->types, one->in, one->shares, one->places,
                               one->types, comm, &one->request));
        else
            MPI(MPI_Ialltoallv(one->out, one->shares, one->places, MPI_BYTE, one->in, one->shares, one->places,
                               MPI_BYTE, comm, &one->request));
    }

    one = start(count, check_scan);
    put_values(one, count);
    MPI(MPI_Iscan(one->out, one->in, (int)count, MPI_INT64_T, MPI_SUM, comm, &one->request));

    one = start(count, check_exscan);
    put_values(one, count);
    MPI(MPI_Iexscan(one->out, one->in, (int)count, MPI_INT64_T, MPI_SUM, comm, &one->request));

    one = start(count, check_block);
    put_values(one, count * (size_t)members);
    MPI(MPI_Ireduce_scatter_block(one->out, one->in, (int)count, MPI_INT64_T, MPI_SUM, comm, &one->request));

    one = start(count, check_reduce_scatter);
    put_values(one, (count + 16) * (size_t)members);
    MPI(MPI_Ireduce_scatter(one->out, one->in, one->shares, MPI_INT64_T, MPI_SUM, comm, &one->request));
}

/* Point-to-point messages on the same communicator do not get between them. */
static void talk(uint64_t which)
{
    enum { LENGTH = 3000 };
    uint8_t out[LENGTH], in[LENGTH];
    int to = (me + 1) % members, from = (me + members - 1) % members;
    fill(out, LENGTH, (struct stream){me, to, 900 + which});
    MPI(MPI_Sendrecv(out, LENGTH, MPI_BYTE, to, 5, in, LENGTH, MPI_BYTE, from, 5, comm, MPI_STATUS_IGNORE));
    check_bytes(in, LENGTH, (struct stream){from, me, 900 + which});
}

static void finish(void)
{
    MPI_Request requests[MOST];
    for (int i = 0; i < started; i++)
        requests[i] = pending[i].request;
    for (int left = started; left > 0; left--) {
        int index;
        MPI(MPI_Waitany(started, requests, &index, MPI_STATUS_IGNORE));
        pending[index].check(&pending[index]);
    }
    for (int i = 0; i < started; i++) {
        free(pending[i].out);
        free(pending[i].in);
        free(pending[i].shares);
        free(pending[i].places);
        free(pending[i].types);
    }
    started = 0;
}

static void over(MPI_Comm chosen)
{
    static const size_t counts[] = {0, 1, 50, 3000, 20000};
    comm = chosen;
    MPI(MPI_Comm_rank(comm, &me));
    MPI(MPI_Comm_size(comm, &members));
    for (int i = 0; i < 5; i++) {
        start_rooted(counts[i]);
        talk((uint64_t)i);
        start_rootless(counts[i]);
        talk((uint64_t)i + 10);
        start_rooted(counts[i] / 2);
        finish();
    }
}

static void nonblocking(void)
{
    MPI_Comm half;
    MPI(MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &half));
    MPI(MPI_Comm_set_errhandler(half, MPI_ERRORS_RETURN));
    over(MPI_COMM_WORLD);
    over(half);
    MPI(MPI_Comm_free(&half));
}

const struct test nonblocking_tests[] = {
    {"nonblocking", nonblocking},
    {NULL, NULL},
};
