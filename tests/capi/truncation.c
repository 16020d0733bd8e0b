/*
 * A message longer than its receive: the receive ends in FI_ETRUNC with the length that was placed and the
 * excess, nothing is written behind the buffer, the sender completes normally, and what follows is intact.
 */
#include "harness.h"

enum { LARGEST = 1 << 20, GUARD = 64 };
static const size_t sizes[] = {2, 100, 1500, 17000, 70000, LARGEST};

static struct node node;
static struct peer peer;
static struct fi_context2 context;

static void sender(void)
{
    static uint8_t out[LARGEST];
    struct fi_cq_tagged_entry entry;
    for (unsigned i = 0; i < 2 * 2 * 6; i++) {
        size_t length = sizes[i % 6];
        bool tagged = i / 6 % 2;
        /* The first half meets posted receives, the second is unexpected. */
        if (i < 12)
            meet(&peer, &node);
        pattern_fill(out, length, i);
        if (tagged)
            RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &context));
        else
            RETRY(&node, fi_send(node.ep, out, length, NULL, peer.address, &context));
        if (i >= 12)
            meet(&peer, &node);
        completion_of(&node, &context, &entry);
        RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, 1000 + i, &context));
        completion_of(&node, &context, &entry);
        meet(&peer, &node);
    }
}

static void receiver(void)
{
    static uint8_t in[LARGEST + GUARD];
    struct fi_cq_tagged_entry entry;
    struct fi_cq_err_entry error;
    for (unsigned i = 0; i < 2 * 2 * 6; i++) {
        size_t length = sizes[i % 6], room = length / 2;
        bool tagged = i / 6 % 2;
        memset(in, 0xcc, sizeof in);
        if (i >= 12) {
            meet(&peer, &node);
            for (double end = now_seconds() + 0.01; now_seconds() < end;)
                progress(&node);
        }
        if (tagged)
            RETRY(&node, fi_trecv(node.ep, in, room, NULL, FI_ADDR_UNSPEC, i, 0, &context));
        else
            RETRY(&node, fi_recv(node.ep, in, room, NULL, FI_ADDR_UNSPEC, &context));
        if (i < 12)
            meet(&peer, &node);
        error_completion(&node, &error);
        CHECK(error.err == FI_ETRUNC, "%s", fi_strerror(error.err));
        CHECK(error.op_context == &context, "an error entry of another operation");
        if (provider_is_ours()) {
            CHECK(error.len == room && error.olen == length - room, "message %u: len %zu olen %zu of %zu in %zu", i,
                  error.len, error.olen, length, room);
            CHECK(error.flags & FI_RECV, "flags 0x%" PRIx64, error.flags);
            CHECK(!tagged || error.tag == i, "tag %" PRIu64, error.tag);
            pattern_check(in, room, i, "what was placed");
        }
        for (size_t at = room; at < room + GUARD; at++)
            CHECK(in[at] == 0xcc, "message %u: written behind the buffer at %zu", i, at - room);
        RETRY(&node, fi_trecv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, 1000 + i, 0, &context));
        completion_of(&node, &context, &entry);
        pattern_check(in, length, i, "the message after a truncated one");
        meet(&peer, &node);
    }
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){0});
    introduce(&peer, &node);
    if (first)
        sender();
    else
        receiver();
    close_node(&node);
    return finish_peer(&peer);
}
