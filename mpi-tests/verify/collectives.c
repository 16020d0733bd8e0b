/*
 * Collectives over the world, over halves of it and with the ranks reversed, from every root and over many
 * counts. What must come out is computed locally from the patterns of what everyone put in.
 */
#include "verify.h"

static MPI_Comm comm;
static int me, members;
/* Tells one collective's data from the next one's; equal on all members. */
static uint64_t number;

static const size_t counts[] = {0, 1, 3, 17, 1000, 4099, 65537};
enum { COUNTS = sizeof counts / sizeof *counts };

static struct stream of(int source, int destination)
{
    return (struct stream){source, destination, number};
}

static int64_t *values(int source, size_t count)
{
    int64_t *buffer = allocate(count * sizeof *buffer);
    for (size_t i = 0; i < count; i++)
        buffer[i] = value_of(of(source, -1), i);
    return buffer;
}

static void broadcast(void)
{
    static const size_t large[] = {0, 1, 8, 1000, 16 * KIB + 1, 64 * KIB, MIB + 3};
    for (int i = 0; i < 7; i++)
        for (int root = 0; root < members; root++, number++) {
            uint8_t *buffer = allocate(large[i]);
            if (me == root)
                fill(buffer, large[i], of(root, -1));
            MPI(MPI_Bcast(buffer, (int)large[i], MPI_BYTE, root, comm));
            check_bytes(buffer, large[i], of(root, -1));
            free(buffer);
        }
}

/* Sum, maximum and exclusive or over what all (or those up to `last`) put in. */
static int64_t reduced(MPI_Op op, int last, size_t index)
{
    int64_t result = value_of(of(0, -1), index);
    for (int member = 1; member <= last; member++) {
        int64_t value = value_of(of(member, -1), index);
        if (op == MPI_SUM)
            result += value;
        else if (op == MPI_MAX)
            result = value > result ? value : result;
        else
            result ^= value;
    }
    return result;
}

static MPI_Op op_of(int index)
{
    return index == 0 ? MPI_SUM : index == 1 ? MPI_MAX : MPI_BXOR;
}

static void check_reduced(const int64_t *out, size_t count, MPI_Op op, int last, const char *what)
{
    for (size_t i = 0; i < count; i++)
        check_value(out[i], reduced(op, last, i), what);
}

static void reductions(void)
{
    for (int i = 0; i < COUNTS; i++)
        for (int op = 0; op < 3; op++, number++) {
            int count = (int)counts[i], root = i % members;
            int64_t *in = values(me, counts[i]), *out = values(me, counts[i]);
            MPI(MPI_Reduce(in, out, count, MPI_INT64_T, op_of(op), root, comm));
            if (me == root)
                check_reduced(out, counts[i], op_of(op), members - 1, "reduce");
            MPI(MPI_Allreduce(in, out, count, MPI_INT64_T, op_of(op), comm));
            check_reduced(out, counts[i], op_of(op), members - 1, "allreduce");
            MPI(MPI_Scan(in, out, count, MPI_INT64_T, op_of(op), comm));
            check_reduced(out, counts[i], op_of(op), me, "scan");
            MPI(MPI_Exscan(in, out, count, MPI_INT64_T, op_of(op), comm));
            if (me > 0)
                check_reduced(out, counts[i], op_of(op), me - 1, "exscan");
            memcpy(out, in, counts[i] * sizeof *in);
            MPI(MPI_Allreduce(MPI_IN_PLACE, out, count, MPI_INT64_T, op_of(op), comm));
            check_reduced(out, counts[i], op_of(op), members - 1, "allreduce in place");
            free(in);
            free(out);
        }
}

/* Everyone gets a share of the sum: equal ones, then uneven ones. */
static void reduce_scatters(void)
{
    for (int i = 0; i < COUNTS - 1; i++, number++) {
        size_t block = counts[i], all = block * (size_t)members;
        int64_t *in = values(me, all + (size_t)members * (size_t)members), *out = values(me, all + (size_t)members);
        MPI(MPI_Reduce_scatter_block(in, out, (int)block, MPI_INT64_T, MPI_SUM, comm));
        for (size_t j = 0; j < block; j++)
            check_value(out[j], reduced(MPI_SUM, members - 1, (size_t)me * block + j), "reduce_scatter_block");
        int *shares = allocate((size_t)members * sizeof *shares);
        size_t before = 0;
        for (int member = 0; member < members; member++) {
            shares[member] = (int)block + member;
            before += member < me ? (size_t)shares[member] : 0;
        }
        MPI(MPI_Reduce_scatter(in, out, shares, MPI_INT64_T, MPI_SUM, comm));
        for (size_t j = 0; j < (size_t)shares[me]; j++)
            check_value(out[j], reduced(MPI_SUM, members - 1, before + j), "reduce_scatter");
        free(shares);
        free(in);
        free(out);
    }
}

/* An operation where the order matters: products of 2x2 matrices modulo a prime. */
enum { PRIME = 65521, MATRICES = 100 };

static void multiply(void *left, void *right, int *length, MPI_Datatype *type)
{
    int64_t *a = left, *b = right;
    (void)type;
    for (int i = 0; i < *length; i++, a += 4, b += 4) {
        int64_t product[4] = {(a[0] * b[0] + a[1] * b[2]) % PRIME, (a[0] * b[1] + a[1] * b[3]) % PRIME,
                              (a[2] * b[0] + a[3] * b[2]) % PRIME, (a[2] * b[1] + a[3] * b[3]) % PRIME};
        memcpy(b, product, sizeof product);
    }
}

static void matrices_of(int member, int64_t *matrices)
{
    for (size_t i = 0; i < 4 * MATRICES; i++)
        matrices[i] = (value_of(of(member, -1), i) % PRIME + PRIME) % PRIME;
}

static void check_product(const int64_t *actual, int last, const char *what)
{
    int64_t result[4 * MATRICES], next[4 * MATRICES];
    int length = MATRICES;
    matrices_of(last, result);
    for (int member = last - 1; member >= 0; member--) {
        matrices_of(member, next);
        multiply(next, result, &length, NULL);
    }
    for (int i = 0; i < 4 * MATRICES; i++)
        check_value(actual[i], result[i], what);
}

static void ordered_reductions(void)
{
    int64_t in[4 * MATRICES], out[4 * MATRICES];
    MPI_Datatype matrix;
    MPI_Op product;
    MPI(MPI_Type_contiguous(4, MPI_INT64_T, &matrix));
    MPI(MPI_Type_commit(&matrix));
    MPI(MPI_Op_create(multiply, 0, &product));
    matrices_of(me, in);
    for (int root = 0; root < members; root++) {
        MPI(MPI_Reduce(in, out, MATRICES, matrix, product, root, comm));
        if (me == root)
            check_product(out, members - 1, "reduce in order");
    }
    MPI(MPI_Allreduce(in, out, MATRICES, matrix, product, comm));
    check_product(out, members - 1, "allreduce in order");
    MPI(MPI_Scan(in, out, MATRICES, matrix, product, comm));
    check_product(out, me, "scan in order");
    MPI(MPI_Op_free(&product));
    MPI(MPI_Type_free(&matrix));
    number++;
}

/* Equal shares and uneven ones, apart from each other by a gap of one byte. */
static void gather_scatter(void)
{
    int *shares = allocate((size_t)members * sizeof *shares), *places = allocate((size_t)members * sizeof *places);
    for (int i = 0; i < COUNTS; i++)
        for (int root = 0; root < members; root++, number++) {
            size_t block = counts[i], all = (block + 100) * (size_t)members;
            uint8_t *mine = allocate(block + (size_t)me), *everyone = allocate(all);
            int end = 0;
            for (int member = 0; member < members; member++) {
                shares[member] = (int)block + member;
                places[member] = end;
                end += shares[member] + 1;
            }
            fill(mine, block, of(me, -1));
            MPI(MPI_Gather(mine, (int)block, MPI_BYTE, everyone, (int)block, MPI_BYTE, root, comm));
            for (int member = 0; me == root && member < members; member++)
                check_bytes(everyone + (size_t)member * block, block, of(member, -1));
            fill(mine, block + (size_t)me, of(me, -1));
            memset(everyone, UNTOUCHED, all);
            MPI(MPI_Gatherv(mine, shares[me], MPI_BYTE, everyone, shares, places, MPI_BYTE, root, comm));
            for (int member = 0; me == root && member < members; member++) {
                check_bytes(everyone + places[member], (size_t)shares[member], of(member, -1));
                check_untouched(everyone + places[member] + shares[member], 1, "gatherv: between shares");
            }
            for (int member = 0; me == root && member < members; member++)
                fill(everyone + (size_t)member * block, block, of(root, member));
            MPI(MPI_Scatter(everyone, (int)block, MPI_BYTE, mine, (int)block, MPI_BYTE, root, comm));
            check_bytes(mine, block, of(root, me));
            for (int member = 0; me == root && member < members; member++)
                fill(everyone + places[member], (size_t)shares[member], of(root, member));
            MPI(MPI_Scatterv(everyone, shares, places, MPI_BYTE, mine, shares[me], MPI_BYTE, root, comm));
            check_bytes(mine, (size_t)shares[me], of(root, me));
            free(mine);
            free(everyone);
        }
    free(shares);
    free(places);
}

static void all_gathers(void)
{
    int *shares = allocate((size_t)members * sizeof *shares), *places = allocate((size_t)members * sizeof *places);
    for (int i = 0; i < COUNTS; i++, number++) {
        size_t block = counts[i];
        uint8_t *mine = allocate(block + (size_t)me), *everyone = allocate((block + 100) * (size_t)members);
        int end = 0;
        for (int member = 0; member < members; member++) {
            shares[member] = (int)block + member;
            places[member] = end;
            end += shares[member] + 1;
        }
        fill(mine, block + (size_t)me, of(me, -1));
        MPI(MPI_Allgather(mine, (int)block, MPI_BYTE, everyone, (int)block, MPI_BYTE, comm));
        for (int member = 0; member < members; member++)
            check_bytes(everyone + (size_t)member * block, block, of(member, -1));
        memset(everyone, UNTOUCHED, (size_t)end);
        MPI(MPI_Allgatherv(mine, shares[me], MPI_BYTE, everyone, shares, places, MPI_BYTE, comm));
        for (int member = 0; member < members; member++) {
            check_bytes(everyone + places[member], (size_t)shares[member], of(member, -1));
            check_untouched(everyone + places[member] + shares[member], 1, "allgatherv: between shares");
        }
        free(mine);
        free(everyone);
    }
    free(shares);
    free(places);
}

/* What one member has for another: in the uneven forms every pair has its own size. */
static int share(size_t block, int source, int destination)
{
    return (int)block + (source * 3 + destination * 5) % 7;
}

static void all_to_alls(void)
{
    size_t lists = (size_t)members * sizeof(int);
    int *out_shares = allocate(lists), *in_shares = allocate(lists), *out_places = allocate(lists), *in_places = allocate(lists);
    MPI_Datatype *types = allocate((size_t)members * sizeof *types);
    for (int i = 0; i < COUNTS; i++, number++) {
        size_t block = counts[i], room = (block + 8) * (size_t)members;
        uint8_t *out = allocate(room), *in = allocate(room);
        for (int member = 0; member < members; member++)
            fill(out + (size_t)member * block, block, of(me, member));
        MPI(MPI_Alltoall(out, (int)block, MPI_BYTE, in, (int)block, MPI_BYTE, comm));
        for (int member = 0; member < members; member++)
            check_bytes(in + (size_t)member * block, block, of(member, me));
        for (int member = 0; member < members; member++) {
            out_shares[member] = share(block, me, member);
            in_shares[member] = share(block, member, me);
            out_places[member] = in_places[member] = (int)(block + 8) * member;
            types[member] = MPI_BYTE;
            fill(out + out_places[member], (size_t)out_shares[member], of(me, member));
        }
        for (int w = 0; w < 2; w++) {
            memset(in, UNTOUCHED, room);
            if (w)
                MPI(MPI_Alltoallw(out, out_shares, out_places, types, in, in_shares, in_places, types, comm));
            else
                MPI(MPI_Alltoallv(out, out_shares, out_places, MPI_BYTE, in, in_shares, in_places, MPI_BYTE, comm));
            for (int member = 0; member < members; member++) {
                check_bytes(in + in_places[member], (size_t)in_shares[member], of(member, me));
                check_untouched(in + in_places[member] + in_shares[member], block + 8 - (size_t)in_shares[member],
                                "alltoall: between shares");
            }
        }
        free(out);
        free(in);
    }
    free(out_shares);
    free(in_shares);
    free(out_places);
    free(in_places);
    free(types);
}

/* Nobody leaves a barrier before everybody has entered it. */
static void barriers(void)
{
    enum { ROUNDS = 30 };
    for (int round = 0; round < ROUNDS; round++) {
        /* The flag travels by a message that is sent before the barrier; it must be there after it. */
        int root = round % members, flag = -1, found = 0;
        MPI_Request request = MPI_REQUEST_NULL;
        if (me != root)
            MPI(MPI_Issend(&round, 1, MPI_INT, root, 77, comm, &request));
        MPI(MPI_Barrier(comm));
        for (int member = 0; me == root && member < members; member++) {
            if (member == me)
                continue;
            while (!found)
                MPI(MPI_Iprobe(member, 77, comm, &found, MPI_STATUS_IGNORE));
            MPI(MPI_Recv(&flag, 1, MPI_INT, member, 77, comm, MPI_STATUS_IGNORE));
            check_value(flag, round, "sent before a barrier");
            found = 0;
        }
        MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
    }
}

static void over(MPI_Comm chosen, void (*collective)(void))
{
    comm = chosen;
    MPI(MPI_Comm_rank(comm, &me));
    MPI(MPI_Comm_size(comm, &members));
    number = 0;
    MPI(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
    collective();
}

/* The world, its halves (at the same time), and the world with its ranks reversed. */
static void over_all(void (*collective)(void))
{
    MPI_Comm half, reversed;
    MPI(MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half));
    MPI(MPI_Comm_split(MPI_COMM_WORLD, 0, -rank, &reversed));
    over(MPI_COMM_WORLD, collective);
    over(half, collective);
    over(reversed, collective);
    MPI(MPI_Comm_free(&half));
    MPI(MPI_Comm_free(&reversed));
}

static void test_barriers(void) { over_all(barriers); }
static void test_broadcast(void) { over_all(broadcast); }
static void test_reductions(void) { over_all(reductions); }
static void test_reduce_scatters(void) { over_all(reduce_scatters); }
static void test_ordered(void) { over_all(ordered_reductions); }
static void test_gather_scatter(void) { over_all(gather_scatter); }
static void test_all_gathers(void) { over_all(all_gathers); }
static void test_all_to_alls(void) { over_all(all_to_alls); }

const struct test collective_tests[] = {
    {"barriers", test_barriers},
    {"broadcast", test_broadcast},
    {"reductions", test_reductions},
    {"reduce-scatters", test_reduce_scatters},
    {"ordered-reductions", test_ordered},
    {"gather-scatter", test_gather_scatter},
    {"all-gathers", test_all_gathers},
    {"all-to-alls", test_all_to_alls},
    {NULL, NULL},
};
