/*
 * Multi-receive buffers: consecutive messages fill one buffer without overlap, each completion says where its
 * message is, and the buffer is given back exactly once, when less than the minimum is left.
 */
#include "harness.h"

enum { BUFFER = 8192, MINIMUM = 1024, MESSAGES = 200, LARGEST = 1500 };

static struct node node;
static struct peer peer;

static size_t length_of(unsigned number)
{
    /* libfabric's own providers truncate a message that does not fit behind the others; ours takes the next
     * buffer for it. */
    return (number * 977u) % (provider_is_ours() ? LARGEST : MINIMUM + 1);
}

static void sender(void)
{
    static uint8_t out[LARGEST];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    meet(&peer, &node);
    for (unsigned i = 0; i < MESSAGES; i++) {
        pattern_fill(out, length_of(i), i);
        RETRY(&node, fi_send(node.ep, out, length_of(i), NULL, peer.address, &context));
        completion_of(&node, &context, &entry);
    }
    meet(&peer, &node);
}

static void post(uint8_t *buffer, struct fi_context2 *context)
{
    struct iovec iov = {buffer, BUFFER};
    struct fi_msg msg = {.msg_iov = &iov, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .context = context};
    RETRY(&node, fi_recvmsg(node.ep, &msg, FI_MULTI_RECV | FI_COMPLETION));
}

static void receiver(void)
{
    static uint8_t buffers[2][BUFFER];
    static struct fi_context2 contexts[2];
    struct fi_cq_tagged_entry entry;
    size_t minimum = MINIMUM;
    unsigned received = 0, released = 0;
    uint8_t *next[2] = {buffers[0], buffers[1]};
    OK(fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &minimum, sizeof minimum));
    post(buffers[0], &contexts[0]);
    post(buffers[1], &contexts[1]);
    meet(&peer, &node);
    while (received < MESSAGES) {
        completion(&node, &entry);
        int which = entry.op_context == &contexts[1];
        CHECK(entry.op_context == &contexts[which], "a completion of no buffer");
        /* An entry that only gives the buffer back carries no other flag (fi_cq(3)). */
        CHECK(entry.flags & (FI_RECV | FI_MULTI_RECV), "flags 0x%" PRIx64, entry.flags);
        if (entry.flags & ~FI_MULTI_RECV) {
            uint8_t *at = entry.buf;
            CHECK(at != NULL, "message %u: flags 0x%" PRIx64 " len %zu, and no buffer", received, entry.flags, entry.len);
            CHECK(at >= next[which] && at + entry.len <= buffers[which] + BUFFER,
                  "message %u at offset %td, free from %td", received, at - buffers[which], next[which] - buffers[which]);
            CHECK(entry.len == length_of(received), "message %u: len %zu", received, entry.len);
            pattern_check(at, entry.len, received, "message");
            next[which] = at + entry.len;
            received++;
        }
        if (entry.flags & FI_MULTI_RECV) {
            /* Less than the minimum is left, or less than the message that came needs. */
            ptrdiff_t least = provider_is_ours() ? LARGEST : MINIMUM + 64;
            CHECK(buffers[which] + BUFFER - next[which] < least, "given back with %td bytes left",
                  buffers[which] + BUFFER - next[which]);
            released++;
            memset(buffers[which], 0, BUFFER);
            next[which] = buffers[which];
            post(buffers[which], &contexts[which]);
        }
    }
    CHECK(released > 5, "only %u buffers were given back", released);
    meet(&peer, &node);
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_MULTI_RECV});
    introduce(&peer, &node);
    if (first)
        sender();
    else
        receiver();
    close_node(&node);
    return finish_peer(&peer);
}
