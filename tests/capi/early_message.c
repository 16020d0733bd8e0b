/*
 * A message that arrived before its sender was inserted into the address vector matches a receive directed at
 * that sender which is posted later, and one that is not from it does not.
 */
#include "harness.h"

enum { LARGE = 200000 };

static struct node node;
static struct peer peer;
static struct fi_context2 context;

static void sender(void)
{
    uint8_t name[NAME_BYTES];
    static uint8_t out[LARGE];
    struct fi_cq_tagged_entry entry;
    hear_name(&peer, name);
    peer.address = insert(&node, name);
    size_t sizes[] = {0, 100, LARGE};
    for (unsigned i = 0; i < 3; i++) {
        pattern_fill(out, sizes[i], i);
        RETRY(&node, fi_tsend(node.ep, out, sizes[i], NULL, peer.address, i, &context));
        if (i == 1)
            tell_name(&peer, &node);
        completion_of(&node, &context, &entry);
    }
    meet(&peer, &node);
}

static void receiver(void)
{
    uint8_t name[NAME_BYTES];
    static uint8_t in[LARGE];
    struct fi_cq_tagged_entry entry;
    fi_addr_t source = 0, stranger;
    tell_name(&peer, &node);
    /* Progress without the sender in the vector: the messages arrive and stay. */
    struct pollfd wait = {.fd = peer.fd, .events = POLLIN};
    while (poll(&wait, 1, 0) == 0)
        progress(&node);
    for (double end = now_seconds() + 0.1; now_seconds() < end;)
        progress(&node);
    struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    stranger = insert(&node, &other);
    hear_name(&peer, name);
    peer.address = insert(&node, name);
    RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, stranger, 0, UINT64_MAX, &node));
    size_t sizes[] = {0, 100, LARGE};
    for (unsigned i = 0; i < 3; i++) {
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, peer.address, i, 0, &context));
        double limit = now_seconds() + WAIT_SECONDS;
        ssize_t result;
        while ((result = fi_cq_readfrom(node.cq, &entry, 1, &source)) == -FI_EAGAIN)
            CHECK(now_seconds() < limit, "message %u does not match the receive directed at its sender", i);
        RETURNS(1, result);
        CHECK(entry.op_context == &context, "message %u went to a receive for another sender", i);
        CHECK(source == peer.address, "source %" PRIu64 ", expected %" PRIu64, source, peer.address);
        CHECK(entry.len == sizes[i], "len %zu", entry.len);
        pattern_check(in, sizes[i], i, "early message");
    }
    meet(&peer, &node);
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_TAGGED | FI_DIRECTED_RECV | FI_SOURCE, .addr_format = FI_SOCKADDR_IN});
    if (first)
        sender();
    else
        receiver();
    close_node(&node);
    return finish_peer(&peer);
}
