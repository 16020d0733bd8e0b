/*
 * Injected messages: no completion, the buffer is free on return, too large a one is refused; and they arrive
 * even when the sender closes its endpoint, or exits, right after the call.
 */
#include "harness.h"

enum { MANY = 500 };

static struct node node;
static struct peer peer;

static void sender(bool close_first)
{
    size_t length = node.info->tx_attr->inject_size < 64 ? node.info->tx_attr->inject_size : 64;
    uint8_t *too_large = calloc(1, node.info->tx_attr->inject_size + 1), out[64];
    CHECK(too_large != NULL, "no memory");
    ssize_t result = fi_inject(node.ep, too_large, node.info->tx_attr->inject_size + 1, peer.address);
    if (provider_is_ours())
        CHECK(result == -FI_EMSGSIZE || result == -FI_EINVAL, "injecting too much returned %zd", result);
    /* Others take it; it is not what this program is about, and would be one message more. */
    if (result == 0)
        skip("%s injects more than it says", provider_name());
    free(too_large);
    for (unsigned i = 0; i < MANY; i++) {
        pattern_fill(out, length, i);
        RETRY(&node, fi_tinject(node.ep, out, length, peer.address, i));
        memset(out, 0, sizeof out);
    }
    if (close_first)
        close_node(&node);
    /* Without it the process ends with everything open. */
    exit(0);
}

static void receiver(size_t length, bool close_first)
{
    uint8_t in[64];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    for (unsigned i = 0; i < MANY; i++) {
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, &context));
        if (!completion_within(&node, &entry, WAIT_SECONDS))
            FAIL("message %u of %d, injected before the sender %s, does not arrive", i, MANY,
                 close_first ? "closed its endpoint" : "exited with everything open");
        CHECK(entry.len == length, "len %zu", entry.len);
        pattern_check(in, length, i, "injected message");
    }
}

int main(void)
{
    for (int close_first = 1; close_first >= 0; close_first--) {
        size_t length = 64;
        /* Closing is what others need to get their last messages out. */
        if (!close_first && !provider_is_ours())
            break;
        if (start_peer(&peer)) {
            open_node(&node, &(struct wish){0});
            introduce(&peer, &node);
            length = node.info->tx_attr->inject_size < 64 ? node.info->tx_attr->inject_size : 64;
            tell(&peer, &length, sizeof length);
            sender(close_first);
        }
        open_node(&node, &(struct wish){0});
        introduce(&peer, &node);
        hear(&peer, &length, sizeof length);
        /* Let it finish before the first byte is looked at: the messages must not need our help at once. */
        receiver(length, close_first);
        close_node(&node);
        int status = finish_peer(&peer);
        if (status != 0)
            return status;
        close(peer.fd);
    }
    return 0;
}
