/*
 * Which receive gets which message: tags with ignored bits, posting order, arrival order, sources. The first
 * process sends; the second receives before and after arrival.
 */
#include "harness.h"

enum { MANY = 64 };

static struct node node;
static struct peer peer;
static struct fi_context2 contexts[MANY];

static void send_number(uint64_t tag, uint32_t number)
{
    struct fi_cq_tagged_entry entry;
    RETRY(&node, fi_tsend(node.ep, &number, sizeof number, NULL, peer.address, tag, &contexts[0]));
    completion_of(&node, &contexts[0], &entry);
}

static void post(uint32_t *number, uint64_t tag, uint64_t ignore, unsigned context)
{
    RETRY(&node, fi_trecv(node.ep, number, sizeof *number, NULL, FI_ADDR_UNSPEC, tag, ignore, &contexts[context]));
}

static void sender(void)
{
    /* Receives are posted. */
    meet(&peer, &node);
    send_number(0x1005, 1);
    send_number(7, 2);
    send_number(0x2006, 3);
    send_number(7, 4);
    meet(&peer, &node);
    /* Nothing is posted: all of these are unexpected. */
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t number = i;
        RETRY(&node, fi_tinject(node.ep, &number, sizeof number, peer.address, i % 4));
    }
    meet(&peer, &node);
    meet(&peer, &node);
}

static void expect(const struct fi_cq_tagged_entry *entry, unsigned context, uint64_t tag)
{
    CHECK(entry->op_context == &contexts[context], "receive %td matched, expected %u",
          (struct fi_context2 *)entry->op_context - contexts, context);
    CHECK(entry->tag == tag, "tag 0x%" PRIx64 ", expected 0x%" PRIx64, entry->tag, tag);
}

static void posted_first(void)
{
    uint32_t numbers[4] = {0};
    struct fi_cq_tagged_entry entry;
    post(&numbers[0], 7, 0, 0);
    post(&numbers[1], 0, 0xffff, 1);
    post(&numbers[2], 7, 0, 2);
    post(&numbers[3], 0x0006, 0xf000, 3);
    meet(&peer, &node);
    completion(&node, &entry);
    expect(&entry, 1, 0x1005); /* the wildcard comes first in posting order that fits */
    completion(&node, &entry);
    expect(&entry, 0, 7);
    completion(&node, &entry);
    expect(&entry, 3, 0x2006);
    completion(&node, &entry);
    expect(&entry, 2, 7);
    CHECK(numbers[0] == 2 && numbers[1] == 1 && numbers[2] == 4 && numbers[3] == 3, "numbers %u %u %u %u",
          numbers[0], numbers[1], numbers[2], numbers[3]);
    meet(&peer, &node);
}

static void arrived_first(void)
{
    struct fi_cq_tagged_entry entry;
    uint32_t number;
    meet(&peer, &node);
    /* Tag by tag, the last tag first; within a tag the order of sending holds. */
    for (int tag = 3; tag >= 1; tag--)
        for (uint32_t expected = (uint32_t)tag; expected < MANY; expected += 4) {
            post(&number, (uint64_t)tag, 0, 5);
            completion_of(&node, &contexts[5], &entry);
            CHECK(number == expected, "tag %d: number %u, expected %u", tag, number, expected);
        }
    /* What is left by a wildcard. */
    for (uint32_t expected = 0; expected < MANY; expected += 4) {
        post(&number, 0, UINT64_MAX, 6);
        completion_of(&node, &contexts[6], &entry);
        CHECK(number == expected && entry.tag == 0, "number %u, expected %u", number, expected);
    }
    post(&number, 0, UINT64_MAX, 7);
    no_completion(&node);
    meet(&peer, &node);
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_TAGGED | FI_MSG});
    introduce(&peer, &node);
    if (first) {
        sender();
    } else {
        posted_first();
        arrived_first();
    }
    close_node(&node);
    return finish_peer(&peer);
}
