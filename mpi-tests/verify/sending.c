/*
 * Sending: every mode, blocking, non-blocking and persistent, over sizes around the thresholds of protocols,
 * with the receive posted before and after the message's arrival.
 */
#include "verify.h"

static const size_t sizes[] = {0,          1,          7,           8,           64,         511,      KIB - 1,
                               KIB,        KIB + 1,    4096,        8192,        16 * KIB - 1, 16 * KIB, 16 * KIB + 1,
                               64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1,    MIB,        MIB + 1};
enum { SIZES = sizeof sizes / sizeof *sizes };

enum mode { SEND, BSEND, SSEND, RSEND, ISEND, IBSEND, ISSEND, IRSEND, MODES };

static int right(void)
{
    return (rank + 1) % ranks;
}

static int left(void)
{
    return (rank + ranks - 1) % ranks;
}

/* Start a send in a mode; blocking modes leave MPI_REQUEST_NULL. */
static void send_in_mode(enum mode mode, const void *buffer, size_t length, int to, int tag, MPI_Request *request)
{
    int count = (int)length;
    *request = MPI_REQUEST_NULL;
    switch (mode) {
    case SEND: MPI(MPI_Send(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD)); break;
    case BSEND: MPI(MPI_Bsend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD)); break;
    case SSEND: MPI(MPI_Ssend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD)); break;
    case RSEND: MPI(MPI_Rsend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD)); break;
    case ISEND: MPI(MPI_Isend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request)); break;
    case IBSEND: MPI(MPI_Ibsend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request)); break;
    case ISSEND: MPI(MPI_Issend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request)); break;
    default: MPI(MPI_Irsend(buffer, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request)); break;
    }
}

static struct stream to_right(uint64_t number)
{
    return (struct stream){rank, right(), number};
}

static struct stream from_left(uint64_t number)
{
    return (struct stream){left(), rank, number};
}

/* Round the ring with receives posted first, as ready mode demands. */
static void modes_posted(void)
{
    size_t attached = 16 * MIB; /* all of them may still be on their way */
    void *buffer = allocate(attached);
    uint8_t *out = allocate(MIB + 1), *in = allocate(MIB + 2);
    MPI(MPI_Buffer_attach(buffer, (int)attached));
    for (int mode = 0; mode < MODES; mode++)
        for (int i = 0; i < SIZES; i++) {
            uint64_t number = (uint64_t)(mode * SIZES + i);
            MPI_Request receive, send;
            MPI_Status status;
            fill(out, sizes[i], to_right(number));
            memset(in, UNTOUCHED, sizes[i] + 1);
            MPI(MPI_Irecv(in, (int)sizes[i] + 1, MPI_BYTE, left(), i, MPI_COMM_WORLD, &receive));
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            send_in_mode(mode, out, sizes[i], right(), i, &send);
            MPI(MPI_Wait(&receive, &status));
            MPI(MPI_Wait(&send, MPI_STATUS_IGNORE));
            check_status(&status, left(), i, sizes[i]);
            check_bytes(in, sizes[i], from_left(number));
            check_untouched(in + sizes[i], 1, "behind the message");
        }
    void *detached;
    int detached_size;
    MPI(MPI_Buffer_detach(&detached, &detached_size));
    free(buffer);
    free(out);
    free(in);
}

/* The message is there before its receive is. */
static void modes_unexpected(void)
{
    static const enum mode modes[] = {ISEND, IBSEND, ISSEND};
    size_t attached = 16 * MIB; /* all of them may still be on their way */
    void *buffer = allocate(attached);
    uint8_t *out = allocate(MIB + 1), *in = allocate(MIB + 1);
    MPI(MPI_Buffer_attach(buffer, (int)attached));
    for (int mode = 0; mode < 3; mode++)
        for (int i = 0; i < SIZES; i++) {
            uint64_t number = 1000 + (uint64_t)(mode * SIZES + i);
            MPI_Request send;
            MPI_Status status;
            fill(out, sizes[i], to_right(number));
            send_in_mode(modes[mode], out, sizes[i], right(), i, &send);
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            MPI(MPI_Recv(in, (int)sizes[i], MPI_BYTE, left(), i, MPI_COMM_WORLD, &status));
            MPI(MPI_Wait(&send, MPI_STATUS_IGNORE));
            check_status(&status, left(), i, sizes[i]);
            check_bytes(in, sizes[i], from_left(number));
        }
    void *detached;
    int detached_size;
    MPI(MPI_Buffer_detach(&detached, &detached_size));
    free(buffer);
    free(out);
    free(in);
}

/* Up to 64 MiB, both directions at once, then as an unexpected message. */
static void large(void)
{
    static const size_t large_sizes[] = {4 * MIB + 3, 16 * MIB - 1, 64 * MIB};
    uint8_t *out = allocate(64 * MIB), *in = allocate(64 * MIB);
    for (int i = 0; i < 3; i++) {
        size_t length = large_sizes[i];
        MPI_Request requests[2];
        fill(out, length, to_right(2000 + (uint64_t)i));
        MPI(MPI_Irecv(in, (int)length, MPI_BYTE, left(), i, MPI_COMM_WORLD, &requests[0]));
        MPI(MPI_Isend(out, (int)length, MPI_BYTE, right(), i, MPI_COMM_WORLD, &requests[1]));
        MPI(MPI_Waitall(2, requests, MPI_STATUSES_IGNORE));
        check_bytes(in, length, from_left(2000 + (uint64_t)i));
        if (length > 16 * MIB)
            continue;
        fill(out, length, to_right(2100 + (uint64_t)i));
        MPI(MPI_Issend(out, (int)length, MPI_BYTE, right(), i, MPI_COMM_WORLD, &requests[1]));
        MPI(MPI_Barrier(MPI_COMM_WORLD));
        MPI(MPI_Recv(in, (int)length, MPI_BYTE, left(), i, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
        MPI(MPI_Wait(&requests[1], MPI_STATUS_IGNORE));
        check_bytes(in, length, from_left(2100 + (uint64_t)i));
    }
    free(out);
    free(in);
}

static void persistent(void)
{
    enum { ROUNDS = 5, KINDS = 4 };
    static const size_t persistent_sizes[] = {0, 100, 16 * KIB + 1, 300 * KIB};
    size_t attached = 4 * MIB;
    void *buffer = allocate(attached);
    MPI(MPI_Buffer_attach(buffer, (int)attached));
    for (int i = 0; i < 4; i++) {
        size_t length = persistent_sizes[i];
        uint8_t *out[KINDS], *in[KINDS];
        MPI_Request receives[KINDS], sends[KINDS];
        for (int kind = 0; kind < KINDS; kind++) {
            out[kind] = allocate(length);
            in[kind] = allocate(length);
            MPI(MPI_Recv_init(in[kind], (int)length, MPI_BYTE, left(), kind, MPI_COMM_WORLD, &receives[kind]));
        }
        MPI(MPI_Send_init(out[0], (int)length, MPI_BYTE, right(), 0, MPI_COMM_WORLD, &sends[0]));
#if defined(OPEN_MPI) && OMPI_MAJOR_VERSION < 5
        /* A persistent buffered send of Open MPI 4 sends the bytes of its first start ever after, over TCP too. */
        MPI(MPI_Send_init(out[1], (int)length, MPI_BYTE, right(), 1, MPI_COMM_WORLD, &sends[1]));
#else
        MPI(MPI_Bsend_init(out[1], (int)length, MPI_BYTE, right(), 1, MPI_COMM_WORLD, &sends[1]));
#endif
        MPI(MPI_Ssend_init(out[2], (int)length, MPI_BYTE, right(), 2, MPI_COMM_WORLD, &sends[2]));
        MPI(MPI_Rsend_init(out[3], (int)length, MPI_BYTE, right(), 3, MPI_COMM_WORLD, &sends[3]));
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t number = 3000 + (uint64_t)(i * 100 + round * 10);
            for (int kind = 0; kind < KINDS; kind++)
                fill(out[kind], length, to_right(number + (uint64_t)kind));
            MPI(MPI_Startall(KINDS, receives));
            MPI(MPI_Barrier(MPI_COMM_WORLD));
            for (int kind = 0; kind < KINDS; kind++)
                MPI(MPI_Start(&sends[kind]));
            MPI(MPI_Waitall(KINDS, receives, MPI_STATUSES_IGNORE));
            MPI(MPI_Waitall(KINDS, sends, MPI_STATUSES_IGNORE));
            for (int kind = 0; kind < KINDS; kind++)
                check_bytes(in[kind], length, from_left(number + (uint64_t)kind));
        }
        for (int kind = 0; kind < KINDS; kind++) {
            MPI(MPI_Request_free(&receives[kind]));
            MPI(MPI_Request_free(&sends[kind]));
            free(out[kind]);
            free(in[kind]);
        }
    }
    void *detached;
    int detached_size;
    MPI(MPI_Buffer_detach(&detached, &detached_size));
    free(buffer);
}

static void sendrecv(void)
{
    uint8_t *out = allocate(MIB), *in = allocate(MIB);
    for (int i = 0; i < SIZES; i++) {
        size_t length = sizes[i] < MIB ? sizes[i] : MIB;
        MPI_Status status;
        fill(out, length, to_right(4000 + (uint64_t)i));
        MPI(MPI_Sendrecv(out, (int)length, MPI_BYTE, right(), i, in, (int)length, MPI_BYTE, left(), i,
                         MPI_COMM_WORLD, &status));
        check_status(&status, left(), i, length);
        check_bytes(in, length, from_left(4000 + (uint64_t)i));
        MPI(MPI_Sendrecv_replace(out, (int)length, MPI_BYTE, right(), i, left(), i, MPI_COMM_WORLD, &status));
        check_bytes(out, length, from_left(4000 + (uint64_t)i));
    }
    MPI_Status status;
    MPI(MPI_Sendrecv(out, 10, MPI_BYTE, MPI_PROC_NULL, 0, in, 10, MPI_BYTE, MPI_PROC_NULL, 0, MPI_COMM_WORLD, &status));
    check_value(status.MPI_SOURCE, MPI_PROC_NULL, "source of nobody");
    free(out);
    free(in);
}

/* Messages to oneself, through the world and through MPI_COMM_SELF. */
static void self(void)
{
    uint8_t *out = allocate(MIB + 1), *in = allocate(MIB + 1);
    for (int i = 0; i < SIZES; i++) {
        for (int early = 0; early < 2; early++) {
            struct stream stream = {rank, rank, 5000 + (uint64_t)(2 * i + early)};
            MPI_Comm comm = early ? MPI_COMM_SELF : MPI_COMM_WORLD;
            int me = early ? 0 : rank;
            MPI_Request requests[2];
            fill(out, sizes[i], stream);
            if (early) {
                MPI(MPI_Irecv(in, (int)sizes[i], MPI_BYTE, me, i, comm, &requests[0]));
                MPI(MPI_Isend(out, (int)sizes[i], MPI_BYTE, me, i, comm, &requests[1]));
            } else {
                MPI(MPI_Isend(out, (int)sizes[i], MPI_BYTE, me, i, comm, &requests[1]));
                MPI(MPI_Irecv(in, (int)sizes[i], MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &requests[0]));
            }
            MPI(MPI_Waitall(2, requests, MPI_STATUSES_IGNORE));
            check_bytes(in, sizes[i], stream);
        }
    }
    free(out);
    free(in);
}

const struct test sending_tests[] = {
    {"modes-posted", modes_posted}, {"modes-unexpected", modes_unexpected},
    {"persistent", persistent},     {"sendrecv", sendrecv},
    {"self", self},                 {"large", large},
    {NULL, NULL},
};
