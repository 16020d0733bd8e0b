/*
 * What the processes of the long run share: memory through which nothing of the fabric goes. The parent says there who
 * lives and who has to end; the workers say how they are reached, what they have sent, and what they have done.
 * Also here: the labels that all messages carry, and what follows from a label, their lengths and bytes.
 */
#ifndef RDGRAM_SOAK_BOARD_H
#define RDGRAM_SOAK_BOARD_H

#include "../capi/local.h"

#include <rdma/fi_atomic.h>

/*
 * Two workers on each host. The first on each lives as long as the run, and is watched for growth; the others end and
 * start again. Of the incarnations of one worker so many are told apart where something of an earlier one may still come.
 */
enum { SLOTS = 4, HOSTS = 2, GENERATIONS = 4 };

/* Nothing may be pending longer, whatever faults there are: none of them lasts more than a few seconds. */
enum { HANG_SECONDS = 60 };

/* A lane is what the tag of a receive names: within a lane, messages of one sender are matched in the order sent. */
enum lane { LANE_HELLO, LANE_SHORT, LANE_OTHER, LANE_LONG, LANE_UNTAGGED, LANES };
/* Beside the lanes: writes that carry data, which are counted only. */
enum { NOTICES = LANES, STREAMS };

enum { SHORT_MAX = 64 << 10, LONG_MAX = 4 << 20, HELLO_LENGTH = 40 };

/* Every message: lane, who sent it to which incarnation, and its number in the lane. */
enum { INCARNATIONS = 1 << 12 };

static inline uint64_t label_of(unsigned lane, unsigned slot, unsigned incarnation, unsigned receiver, uint32_t number)
{
    return (uint64_t)lane << 60 | (uint64_t)slot << 56 | (uint64_t)incarnation << 44 | (uint64_t)receiver << 32 | number;
}
/* The part of a label that does not name the lane, and that which does not name lane and sender. */
static const uint64_t ANY_SENDER = ((uint64_t)1 << 60) - 1, ANY_NUMBER = ((uint64_t)1 << 56) - 1;

static inline unsigned label_lane(uint64_t label) { return (unsigned)(label >> 60); }
static inline unsigned label_slot(uint64_t label) { return (unsigned)(label >> 56) & 0xf; }
static inline unsigned label_incarnation(uint64_t label) { return (unsigned)(label >> 44) & 0xfff; }
static inline unsigned label_receiver(uint64_t label) { return (unsigned)(label >> 32) & 0xfff; }
static inline uint32_t label_number(uint64_t label) { return (uint32_t)label; }

/* Most messages are small; some are around the sizes at which the provider changes its ways. */
static inline size_t label_length(uint64_t label, uint64_t seed)
{
    static const size_t bounds[] = {8, 64, 192, 2048, 8192, 16384, SHORT_MAX};
    uint64_t random = word_at(seed ^ label, 3) >> 8, dice = random % 100;
    random /= 100;
    if (label_lane(label) == LANE_HELLO)
        return HELLO_LENGTH;
    if (label_lane(label) == LANE_LONG)
        return SHORT_MAX + random % ((dice < 80 ? 8 * SHORT_MAX : LONG_MAX) - SHORT_MAX + 1);
    if (dice < 10)
        return 0;
    size_t bound = bounds[dice < 40 ? 0 : dice < 65 ? 1 : dice < 75 ? 2 : dice < 85 ? 3 : 4 + random % 3];
    return (random / 3) % (bound + 1);
}

/* A worker's place, in one word: the incarnation, and how it is with it. */
enum life { ABSENT, STARTING, UP, LEAVING, GONE, DYING };
static const char *const life_names[] = {"absent", "starting", "up", "leaving", "gone", "dying"};

static inline uint64_t status_of(unsigned incarnation, enum life life) { return (uint64_t)incarnation << 8 | life; }
static inline unsigned status_incarnation(uint64_t status) { return (unsigned)(status >> 8); }
static inline enum life status_life(uint64_t status) { return (enum life)(status & 0xff); }

/* What is counted over the whole run, by all. */
enum count {
    SENT, INJECTED, RECEIVED, RECEIVED_BYTES, WRITTEN, READ, MOVED_BYTES, ADDED, CANCELLED, PEEKED, CLAIMED, MULTI,
    MET, HELLO_FAILED, FAILED, STRAYS, DATAGRAMS, RETRANSMITTED, LINKS, LINK_ITEMS, COUNTS,
};
static const char *const count_names[COUNTS] = {
    "messages sent", "of them injected", "messages received and checked", "bytes of messages", "writes", "reads",
    "bytes written and read", "atomics", "receives cancelled", "peeks", "messages claimed", "messages in multi-receive buffers",
    "peers met", "greetings repeated", "operations that failed with their peer", "messages for an earlier incarnation",
    "datagrams", "of them sent again", "links by memory", "messages through memory",
};

/* How a worker is reached. */
struct entrance {
    uint8_t name[NAME_BYTES];
    uint64_t base, key;
};

struct soak_board {
    uint64_t seed;
    _Atomic uint64_t status[SLOTS];
    struct entrance entrances[SLOTS][GENERATIONS];
    /* Incarnations that were killed; set before. */
    _Atomic unsigned killed[SLOTS][GENERATIONS];
    /* Somebody failed: all say how it is with them, and end. */
    _Atomic bool failed;
    /* The last port of a worker, to be taken again or not. */
    _Atomic unsigned port[SLOTS];
    /* What one has sent to another by stream, and between which incarnations: final when this is set. */
    _Atomic uint64_t sent[SLOTS][GENERATIONS][SLOTS][STREAMS];
    _Atomic uint64_t settled[SLOTS][GENERATIONS][SLOTS];
    /* Additions to the counter that all share in the region of a worker: before they begin, and when they have ended. */
    _Atomic uint64_t adds_begun[SLOTS][GENERATIONS], adds_ended[SLOTS][GENERATIONS];
    _Atomic uint64_t counts[COUNTS];
};

/* Names the two incarnations between which something was settled; never 0. */
static inline uint64_t pair_of(unsigned from, unsigned to) { return (uint64_t)1 << 63 | (uint64_t)from << 32 | to; }

static inline void count(struct soak_board *board, enum count what, uint64_t by)
{
    atomic_fetch_add_explicit(&board->counts[what], by, memory_order_relaxed);
}

#endif
