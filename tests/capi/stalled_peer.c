/*
 * A process that takes nothing must not hold up another: with more sent to it than anybody buffers, messages
 * to a third one still go through. When it wakes up, everything for it arrives.
 */
#include "harness.h"

enum { MOST = 20000, SMALL = 512, ROUNDS = 200 };

static struct node node;

static unsigned hear_count(struct peer *peer)
{
    unsigned count;
    hear(peer, &count, sizeof count);
    return count;
}

static void sleeper(struct peer *peer)
{
    static uint8_t in[SMALL];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    unsigned count = hear_count(peer); /* no progress until the others are done */
    for (unsigned i = 0; i < count; i++) {
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
        completion_of(&node, &context, &entry);
        pattern_check(in, SMALL, i, "message to the sleeper");
    }
    meet(peer, &node);
}

static void echo(struct peer *peer)
{
    uint64_t in;
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    for (int i = 0; i < ROUNDS; i++) {
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 2, 0, &context));
        completion_of(&node, &context, &entry);
        RETRY(&node, fi_tsend(node.ep, &in, sizeof in, NULL, peer->address, 3, &context));
        completion_of(&node, &context, &entry);
    }
    meet(peer, &node);
}

/* Completions of messages to the sleeper may come at any time. */
static void wait_for(struct fi_context2 *context)
{
    struct fi_cq_tagged_entry entry;
    do
        completion(&node, &entry);
    while (entry.op_context != context);
}

int main(void)
{
    static struct peer asleep, awake;
    static uint8_t out[MOST][SMALL];
    static struct fi_context2 contexts[MOST];
    struct fi_context2 send_context, receive_context;
    if (start_peer(&asleep)) {
        open_node(&node, &(struct wish){0});
        introduce(&asleep, &node);
        sleeper(&asleep);
        close_node(&node);
        return 0;
    }
    if (start_peer(&awake)) {
        open_node(&node, &(struct wish){0});
        introduce(&awake, &node);
        echo(&awake);
        close_node(&node);
        return 0;
    }
    harness_role = "sender";
    open_node(&node, &(struct wish){0});
    introduce(&asleep, &node);
    introduce(&awake, &node);

    unsigned count = 0;
    double limit = now_seconds() + 2;
    while (count < MOST && now_seconds() < limit) {
        pattern_fill(out[count], SMALL, count);
        ssize_t result = fi_tsend(node.ep, out[count], SMALL, NULL, asleep.address, 1, &contexts[count]);
        CHECK(result == 0 || result == -FI_EAGAIN, "fi_tsend: %zd", result);
        if (result == 0)
            count++;
        else
            progress(&node);
        struct fi_cq_tagged_entry entry;
        (void)completion_within(&node, &entry, 0);
    }
    CHECK(count > 100 || !provider_is_ours(), "only %u messages were taken for a sleeping peer", count);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t in = 0;
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 3, 0, &receive_context));
        RETRY(&node, fi_tsend(node.ep, &i, sizeof i, NULL, awake.address, 2, &send_context));
        wait_for(&receive_context);
        CHECK(in == i, "echo %" PRIu64 " of %" PRIu64, in, i);
    }
    meet(&awake, &node);
    tell(&asleep, &count, sizeof count);
    meet(&asleep, &node);
    close_node(&node);
    printf("%u messages were waiting for the sleeper\n", count);
    int first = finish_peer(&asleep), second = finish_peer(&awake);
    return first != 0 ? first : second;
}
