/*
 * What a worker knows: its operations, the peers it talks to, and what came from each. An operation is one of a fixed number,
 * all of whose memory is there from the beginning: what grows later is the provider's.
 */
#ifndef RDGRAM_SOAK_STATE_H
#define RDGRAM_SOAK_STATE_H

#include "order.h"

enum kind { SEND, RECEIVE, MULTI_RECEIVE, PEEK, CLAIM, WRITE, READ_BACK, ADD, FETCH, KINDS };
static const char *const kind_names[KINDS] = {"send",  "receive", "multi-receive", "peek", "claim",
                                              "write", "read",    "add",           "fetching add"};

enum {
    SHORT_SENDS = 48, LONG_SENDS = 4, SHORT_RECEIVES = 32, LONG_RECEIVES = 4, MULTI_RECEIVES = 2, ADDS = 8, CELLS = 4,
    OPS_MAX = SHORT_SENDS + LONG_SENDS + SHORT_RECEIVES + LONG_RECEIVES + MULTI_RECEIVES + ADDS + SLOTS * CELLS,
    MULTI_ROOM = 512 << 10, MULTI_LEAST = 4096, PIECES = 4, BURST = 24,
};
/* A worker's region: for each incarnation of each initiator cells that it alone writes and a counter; one counter for all. */
enum { CELL = 128 << 10, AREA = CELLS * CELL, COUNTERS = SLOTS * GENERATIONS * AREA, LINE = 64,
       SHARED_COUNTER = COUNTERS + SLOTS * GENERATIONS * LINE, REGION = SHARED_COUNTER + LINE };

/* Of a send's lane there is one, of a receive's this many are posted. */
static const unsigned posted_most[LANES] = {4, 8, 8, 3, 8};

struct op {
    struct fi_context2 context;
    enum kind kind;
    bool busy, cancelled;
    bool by_address; /* of a receive from one worker: not by the tag */
    bool shared;     /* an addition to the counter of all */
    bool known;      /* what is in the cell */
    /* Whom it depends on, or SLOTS: anybody. */
    unsigned slot, incarnation;
    double begun;
    uint64_t label, flags;
    unsigned lane;
    uint64_t place, taken; /* of a receive, and what a multi-receive buffer has got */
    size_t offset, length, room;
    uint8_t *buffer, *shadow;
    uint64_t operand, fetched, before;
};

enum stage { UNMET, GREETING, TALKING, PARTING };
static const char *const stage_names[] = {"unmet", "greeting", "talking", "parting"};

struct peer_of {
    enum stage stage;
    unsigned incarnation;
    fi_addr_t address;
    struct entrance entrance;
    bool greeted, departed;
    double since;
    unsigned pending, directed; /* operations on it, and receives that only its messages match */
    uint32_t next[STREAMS];
    /* The counter at the peer that only this worker adds to; what an earlier process left in it is asked for first. */
    uint64_t added;
    bool asked, known;
};

/* What came from an incarnation of a sender. */
struct streams {
    unsigned incarnation;
    uint64_t received[STREAMS];
    struct order orders[LANES];
};

struct worker {
    struct node node;
    struct soak_board *board;
    unsigned slot, incarnation;
    uint64_t random;
    bool leaving, sleeps, multi;
    int wait_fd;
    struct peer_of peers[SLOTS];
    struct streams streams[SLOTS][GENERATIONS];
    uint64_t posted;
    unsigned posted_in[LANES];
    double paused_until[LANES];
    uint8_t *region;
    struct fid_mr *mr;
    struct op ops[OPS_MAX];
    unsigned op_count;
    struct op *short_sends, *long_sends, *short_receives, *long_receives, *multi_receives, *adds, *cells[SLOTS];
};

static struct worker me;

static unsigned draw(unsigned bound) { return (unsigned)((random_next(&me.random) >> 20) % bound); }

static struct op *make_ops(unsigned many, size_t room, bool shadow)
{
    struct op *ops = me.ops + me.op_count;
    me.op_count += many;
    CHECK(me.op_count <= OPS_MAX, "%u operations", me.op_count);
    for (unsigned i = 0; i < many; i++) {
        ops[i] = (struct op){.room = room, .buffer = malloc(room), .shadow = shadow ? malloc(room) : NULL};
        CHECK(ops[i].buffer != NULL && (!shadow || ops[i].shadow != NULL), "no memory");
        /* Written to, so that the system gives it now. */
        memset(ops[i].buffer, 1, room);
        if (shadow)
            memset(ops[i].shadow, 1, room);
    }
    return ops;
}

static struct op *free_op(struct op *ops, unsigned many)
{
    for (unsigned i = 0; i < many; i++)
        if (!ops[i].busy)
            return &ops[i];
    return NULL;
}

static void op_begin(struct op *op, enum kind kind, unsigned slot, unsigned lane)
{
    op->kind = kind, op->slot = slot, op->lane = lane;
    op->busy = true, op->cancelled = false;
    op->begun = now_seconds();
    op->incarnation = slot < SLOTS ? me.peers[slot].incarnation : 0;
    bool receives = kind == RECEIVE || kind == MULTI_RECEIVE;
    if (slot < SLOTS && !receives)
        me.peers[slot].pending++;
    if (slot < SLOTS && receives)
        me.peers[slot].directed++;
    if (receives || kind == CLAIM)
        me.posted_in[lane]++;
}

static void op_end(struct op *op)
{
    CHECK(op->busy, "a %s ended twice", kind_names[op->kind]);
    bool receives = op->kind == RECEIVE || op->kind == MULTI_RECEIVE;
    op->busy = false;
    if (op->slot < SLOTS && !receives)
        me.peers[op->slot].pending--;
    if (op->slot < SLOTS && receives)
        me.peers[op->slot].directed--;
    if (receives || op->kind == CLAIM)
        me.posted_in[op->lane]--;
}

/* The call found no room. */
static bool op_began(struct op *op, ssize_t result, const char *call)
{
    if (result == 0)
        return true;
    CHECK(result == -FI_EAGAIN, "%s: %zd (%s)", call, result, fi_strerror((int)-result));
    op_end(op);
    return false;
}

#endif
