/*
 * Checks that messages of one sender in one lane were matched in the order sent, and that none is missing: the receives
 * that got them, in the order posted, must hold consecutive numbers. Receives end in another order, so what is known
 * is kept until nothing before it can be under way.
 */
#ifndef RDGRAM_SOAK_ORDER_H
#define RDGRAM_SOAK_ORDER_H

#include "board.h"

enum { ORDER_ROOM = 1 << 12, ORDER_ROOM_MAX = 1 << 20 };

struct order_entry {
    uint64_t place; /* of the receive, in the order posted */
    uint32_t number;
};

struct order {
    struct order_entry *entries; /* by place */
    unsigned count, room;
    uint32_t next; /* number after those that are settled */
    bool gaps; /* the sender was killed: what it had not sent all of is missing */
};

static inline void order_begin(struct order *order)
{
    if (order->entries == NULL) {
        order->room = ORDER_ROOM;
        order->entries = malloc(order->room * sizeof *order->entries);
        CHECK(order->entries != NULL, "no memory");
        memset(order->entries, 0, order->room * sizeof *order->entries);
    }
    order->count = order->next = 0;
    order->gaps = false;
}

/* Before this place nothing is under way any more. */
static inline void order_settle(struct order *order, uint64_t place, const char *what)
{
    unsigned gone = 0;
    for (; gone < order->count && order->entries[gone].place < place; gone++) {
        uint32_t number = order->entries[gone].number;
        CHECK(number == order->next || (order->gaps && number > order->next), "%s: message %u is missing, %u was received",
              what, order->next, number);
        order->next = number + 1;
    }
    order->count -= gone;
    memmove(order->entries, order->entries + gone, order->count * sizeof *order->entries);
}

static inline bool order_is_full(const struct order *order)
{
    return order->count == order->room;
}

/* To be called when settling made no room: one message takes long, and many behind it do not. */
static inline void order_grow(struct order *order, const char *what)
{
    CHECK(order->room < ORDER_ROOM_MAX, "%s: a message is under way while %u came after it", what, order->count);
    order->room *= 2;
    order->entries = realloc(order->entries, order->room * sizeof *order->entries);
    CHECK(order->entries != NULL, "no memory");
}

static inline void order_add(struct order *order, uint64_t place, uint32_t number, const char *what)
{
    unsigned at = order->count;
    while (at > 0 && order->entries[at - 1].place > place)
        at--;
    CHECK(number >= order->next && (at == 0 || order->entries[at - 1].number < number),
          "%s: message %u was matched after message %u", what, number,
          at == 0 ? order->next - 1 : order->entries[at - 1].number);
    CHECK(at == order->count || order->entries[at].number > number, "%s: message %u was matched before message %u", what,
          number, order->entries[at].number);
    memmove(order->entries + at + 1, order->entries + at, (order->count - at) * sizeof *order->entries);
    order->entries[at] = (struct order_entry){place, number};
    order->count++;
}

#endif
