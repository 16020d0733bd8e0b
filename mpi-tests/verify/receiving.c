/*
 * Receiving: any source and any tag, probes of all kinds, messages taken in another order than they were
 * sent, more of them than anyone has buffers for, truncation, cancellation, and all of it mixed.
 */
#include "verify.h"

/* Rank 0 takes from everyone in whatever order it comes; per source the order of sending holds. */
static void any_source(void)
{
    enum { EACH = 300, LARGEST = 100 * 1024 };
    uint8_t *buffer = allocate(LARGEST);
    struct random random = random_of(10 + (uint64_t)rank);
    if (rank != 0) {
        for (int i = 0; i < EACH; i++) {
            size_t length = random_size(&random, LARGEST);
            fill(buffer, length, (struct stream){rank, 0, (uint64_t)i});
            MPI(MPI_Send(buffer, (int)length, MPI_BYTE, 0, i % 7, MPI_COMM_WORLD));
        }
    } else {
        int *next = calloc((size_t)ranks, sizeof *next);
        struct random *expected = calloc((size_t)ranks, sizeof *expected);
        if (next == NULL || expected == NULL)
            fail("no memory");
        for (int source = 1; source < ranks; source++)
            expected[source] = random_of(10 + (uint64_t)source);
        for (int i = 0; i < EACH * (ranks - 1); i++) {
            MPI_Status status;
            MPI(MPI_Recv(buffer, LARGEST, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status));
            int source = status.MPI_SOURCE, number = next[source]++;
            size_t length = random_size(&expected[source], LARGEST);
            check_status(&status, source, number % 7, length);
            check_bytes(buffer, length, (struct stream){source, 0, (uint64_t)number});
        }
        free(next);
        free(expected);
    }
    free(buffer);
}

enum probe { PROBE, IPROBE, MPROBE, IMPROBE, PROBES };

static void receive_probed(enum probe probe, int source, int tag, uint8_t *buffer, MPI_Status *status)
{
    MPI_Message message = MPI_MESSAGE_NULL;
    int found = 0, count;
    switch (probe) {
    case PROBE: MPI(MPI_Probe(source, tag, MPI_COMM_WORLD, status)); break;
    case IPROBE:
        while (!found)
            MPI(MPI_Iprobe(source, tag, MPI_COMM_WORLD, &found, status));
        break;
    case MPROBE: MPI(MPI_Mprobe(source, tag, MPI_COMM_WORLD, &message, status)); break;
    default:
        while (!found)
            MPI(MPI_Improbe(source, tag, MPI_COMM_WORLD, &found, &message, status));
        break;
    }
    MPI(MPI_Get_count(status, MPI_BYTE, &count));
    if (message == MPI_MESSAGE_NULL) {
        MPI(MPI_Recv(buffer, count, MPI_BYTE, status->MPI_SOURCE, status->MPI_TAG, MPI_COMM_WORLD, status));
    } else if (probe == MPROBE) {
        MPI(MPI_Mrecv(buffer, count, MPI_BYTE, &message, status));
    } else {
        MPI_Request request;
        MPI(MPI_Imrecv(buffer, count, MPI_BYTE, &message, &request));
        MPI(MPI_Wait(&request, status));
    }
}

static void probes(void)
{
    enum { EACH = 60, LARGEST = 200 * 1024 };
    uint8_t *buffer = allocate(LARGEST);
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    struct random out = random_of(20 + (uint64_t)rank), in = random_of(20 + (uint64_t)from);
    uint8_t **kept = allocate(EACH * sizeof *kept);
    MPI_Request *requests = allocate(EACH * sizeof *requests);
    for (int i = 0; i < EACH; i++) {
        size_t length = random_size(&out, LARGEST);
        kept[i] = allocate(length);
        fill(kept[i], length, (struct stream){rank, to, (uint64_t)i});
        MPI(MPI_Isend(kept[i], (int)length, MPI_BYTE, to, i, MPI_COMM_WORLD, &requests[i]));
    }
    for (int i = 0; i < EACH; i++) {
        size_t length = random_size(&in, LARGEST);
        bool wild = i % 3 == 0;
        MPI_Status status;
        /* The wildcard finds the oldest, which is this one: all before it were taken. */
        receive_probed(i % PROBES, wild ? MPI_ANY_SOURCE : from, wild ? MPI_ANY_TAG : i, buffer, &status);
        check_status(&status, from, i, length);
        check_bytes(buffer, length, (struct stream){from, rank, (uint64_t)i});
    }
    MPI(MPI_Waitall(EACH, requests, MPI_STATUSES_IGNORE));
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    int found = 1;
    MPI(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE));
    check_value(found, 0, "a message is left that nobody sent");
    MPI_Message message;
    MPI(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, &message, MPI_STATUS_IGNORE));
    check_value(found, 0, "a message is left that nobody sent");
    for (int i = 0; i < EACH; i++)
        free(kept[i]);
    free(kept);
    free(requests);
    free(buffer);
}

/* Many outstanding messages, received in a shuffled order, half of them before they are posted. */
static void other_order(void)
{
    enum { MANY = 400, LARGEST = 300 * 1024 };
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    struct random out = random_of(30 + (uint64_t)rank), in = random_of(30 + (uint64_t)from);
    struct random order = random_of(39);
    size_t lengths[MANY];
    int turns[MANY];
    uint8_t *sent[MANY], *received[MANY];
    static MPI_Request requests[2 * MANY];
    for (int i = 0; i < MANY; i++) {
        size_t length = random_size(&out, LARGEST);
        lengths[i] = random_size(&in, LARGEST);
        turns[i] = i;
        sent[i] = allocate(length);
        received[i] = allocate(lengths[i]);
        fill(sent[i], length, (struct stream){rank, to, (uint64_t)i});
        MPI(MPI_Isend(sent[i], (int)length, MPI_BYTE, to, i, MPI_COMM_WORLD, &requests[i]));
        if (i == MANY / 2)
            MPI(MPI_Barrier(MPI_COMM_WORLD));
    }
    random_shuffle(&order, turns, MANY);
    for (int i = 0; i < MANY; i++) {
        int turn = turns[i];
        MPI(MPI_Irecv(received[turn], (int)lengths[turn], MPI_BYTE, from, turn, MPI_COMM_WORLD, &requests[MANY + i]));
    }
    for (int left = 2 * MANY; left > 0;) {
        static int done[2 * MANY];
        int count;
        MPI(MPI_Waitsome(2 * MANY, requests, &count, done, MPI_STATUSES_IGNORE));
        left -= count;
    }
    for (int i = 0; i < MANY; i++) {
        check_bytes(received[i], lengths[i], (struct stream){from, rank, (uint64_t)i});
        free(sent[i]);
        free(received[i]);
    }
}

/* More small messages than any receiver's pool, none of them expected. */
static void flood(void)
{
    enum { MANY = 5000 };
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    uint32_t *numbers = allocate(MANY * sizeof *numbers);
    MPI_Request *requests = allocate(MANY * sizeof *requests);
    for (uint32_t i = 0; i < MANY; i++) {
        numbers[i] = i * 2654435761u + (uint32_t)rank;
        MPI(MPI_Isend(&numbers[i], 1, MPI_UINT32_T, to, 0, MPI_COMM_WORLD, &requests[i]));
    }
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t number;
        MPI(MPI_Recv(&number, 1, MPI_UINT32_T, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
        check_value(number, (uint32_t)(i * 2654435761u + (uint32_t)from), "a flooded message");
    }
    MPI(MPI_Waitall(MANY, requests, MPI_STATUSES_IGNORE));
    free(numbers);
    free(requests);
}

/* Rank 1 takes what it did not expect from rank 0, the last tag first: what a message costs must not grow with their number. */
static void unexpected_backwards(void)
{
    enum { MANY = 100000 };
    int *largest_tag, found, count = MANY;
    MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest_tag, &found));
    if (found && *largest_tag < count - 1)
        count = *largest_tag + 1;
    if (ranks < 2)
        return;
    int64_t *values = allocate((size_t)count * sizeof *values);
    MPI_Request *requests = allocate((size_t)count * sizeof *requests);
    for (int tag = 0; rank == 0 && tag < count; tag++) {
        values[tag] = value_of((struct stream){0, 1, 80}, (size_t)tag);
        MPI(MPI_Isend(&values[tag], 1, MPI_INT64_T, 1, tag, MPI_COMM_WORLD, &requests[tag]));
    }
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    for (int tag = count - 1; rank == 1 && tag >= 0; tag--) {
        int64_t value = 0;
        MPI_Status status;
        MPI(MPI_Recv(&value, 1, MPI_INT64_T, 0, tag, MPI_COMM_WORLD, &status));
        check_status(&status, 0, tag, sizeof value);
        check_value(value, value_of((struct stream){0, 1, 80}, (size_t)tag), "a message taken last tag first");
    }
    if (rank == 0)
        MPI(MPI_Waitall(count, requests, MPI_STATUSES_IGNORE));
    free(values);
    free(requests);
}

/* A message longer than its receive is an error there, nowhere else, and never writes beyond the buffer. */
static void truncation(void)
{
    static const size_t sent[] = {10, 2000, 20 * KIB, 100 * KIB, 2 * MIB};
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    uint8_t *out = allocate(2 * MIB), *in = allocate(2 * MIB);
    for (int i = 0; i < 5; i++)
        for (int posted = 0; posted < 2; posted++) {
            size_t room = sent[i] / 2;
            MPI_Request receive = MPI_REQUEST_NULL, send;
            fill(out, sent[i], (struct stream){rank, to, (uint64_t)i});
            memset(in, UNTOUCHED, sent[i]);
            if (posted)
                MPI(MPI_Irecv(in, (int)room, MPI_BYTE, from, i, MPI_COMM_WORLD, &receive));
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            MPI(MPI_Isend(out, (int)sent[i], MPI_BYTE, to, i, MPI_COMM_WORLD, &send));
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            int code = posted ? MPI_Wait(&receive, MPI_STATUS_IGNORE)
                              : MPI_Recv(in, (int)room, MPI_BYTE, from, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            int class = MPI_SUCCESS;
            if (code != MPI_SUCCESS)
                MPI_Error_class(code, &class);
            check_value(class, MPI_ERR_TRUNCATE, "the class of a truncated receive's error");
            MPI(MPI_Wait(&send, MPI_STATUS_IGNORE));
            check_untouched(in + room, sent[i] - room, "behind a truncated receive");
            /* What follows is not disturbed. */
            MPI(MPI_Sendrecv(out, (int)sent[i], MPI_BYTE, to, 99, in, (int)sent[i], MPI_BYTE, from, 99,
                             MPI_COMM_WORLD, MPI_STATUS_IGNORE));
            check_bytes(in, sent[i], (struct stream){from, rank, (uint64_t)i});
        }
    free(out);
    free(in);
}

static void cancel(void)
{
    enum { MANY = 20 };
    int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
    uint8_t in[MANY][64], out[64];
    MPI_Request requests[MANY], send;
    for (int i = 0; i < MANY; i++) {
        memset(in[i], UNTOUCHED, sizeof in[i]);
        MPI(MPI_Irecv(in[i], sizeof in[i], MPI_BYTE, from, i, MPI_COMM_WORLD, &requests[i]));
    }
    for (int i = 0; i < MANY; i += 2) {
        MPI_Status status;
        int cancelled;
        MPI(MPI_Cancel(&requests[i]));
        MPI(MPI_Wait(&requests[i], &status));
        MPI(MPI_Test_cancelled(&status, &cancelled));
        check_value(cancelled, 1, "a receive that nothing matched was cancelled");
    }
    MPI(MPI_Barrier(MPI_COMM_WORLD));
    for (int i = 1; i < MANY; i += 2) {
        MPI_Status status;
        fill(out, sizeof out, (struct stream){rank, to, (uint64_t)i});
        MPI(MPI_Isend(out, sizeof out, MPI_BYTE, to, i, MPI_COMM_WORLD, &send));
        MPI(MPI_Wait(&requests[i], &status));
        MPI(MPI_Wait(&send, MPI_STATUS_IGNORE));
        check_status(&status, from, i, sizeof out);
        check_bytes(in[i], sizeof out, (struct stream){from, rank, (uint64_t)i});
        check_untouched(in[i - 1], sizeof in[i - 1], "the buffer of a cancelled receive");
    }
}

/* The same plan on every rank: who sends what to whom; everyone plays its part in its own shuffled order. */
static void soup(void)
{
    enum { MESSAGES = 600, LARGEST = 400 * 1024 };
    struct random random = random_of(70), order = random_of(71 + (uint64_t)rank);
    static struct {
        int source, destination, synchronous;
        size_t length;
    } plan[MESSAGES];
    static int turns[2 * MESSAGES];
    static MPI_Request requests[2 * MESSAGES];
    static uint8_t *buffers[2 * MESSAGES];
    int count = 0;
    for (int i = 0; i < MESSAGES; i++) {
        plan[i].source = (int)random_below(&random, (size_t)ranks);
        plan[i].destination = (int)random_below(&random, (size_t)ranks);
        plan[i].synchronous = (int)random_below(&random, 2);
        plan[i].length = random_size(&random, LARGEST);
        if (plan[i].source == rank)
            turns[count++] = i;
        if (plan[i].destination == rank)
            turns[count++] = MESSAGES + i;
    }
    random_shuffle(&order, turns, (size_t)count);
    for (int turn = 0; turn < count; turn++) {
        bool receive = turns[turn] >= MESSAGES;
        int i = turns[turn] % MESSAGES, length = (int)plan[i].length;
        struct stream stream = {plan[i].source, plan[i].destination, (uint64_t)i};
        buffers[turn] = allocate(plan[i].length);
        if (receive) {
            MPI(MPI_Irecv(buffers[turn], length, MPI_BYTE, plan[i].source, i, MPI_COMM_WORLD, &requests[turn]));
            continue;
        }
        fill(buffers[turn], plan[i].length, stream);
        if (plan[i].synchronous)
            MPI(MPI_Issend(buffers[turn], length, MPI_BYTE, plan[i].destination, i, MPI_COMM_WORLD, &requests[turn]));
        else
            MPI(MPI_Isend(buffers[turn], length, MPI_BYTE, plan[i].destination, i, MPI_COMM_WORLD, &requests[turn]));
    }
    for (int left = count; left > 0; left--) {
        MPI_Status status;
        int turn;
        MPI(MPI_Waitany(count, requests, &turn, &status));
        int i = turns[turn] % MESSAGES;
        if (turns[turn] >= MESSAGES) {
            check_status(&status, plan[i].source, i, plan[i].length);
            check_bytes(buffers[turn], plan[i].length,
                        (struct stream){plan[i].source, plan[i].destination, (uint64_t)i});
        }
        free(buffers[turn]);
    }
}

const struct test receiving_tests[] = {
    {"any-source", any_source},
    {"probes", probes},
    {"other-order", other_order},
    {"flood", flood},
    {"unexpected-backwards", unexpected_backwards},
    {"truncation", truncation},
    {"cancel", cancel},
    {"soup", soup},
    {NULL, NULL},
};
