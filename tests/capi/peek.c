/*
 * Peek, claim and discard: looking at a message does not take it; a claimed one goes only to its claimer; a
 * discarded one is gone; looking for what is not there ends in an error entry FI_ENOMSG.
 */
#include "harness.h"

enum { SMALL = 100, LARGE = 300000 };

static struct node node;
static struct peer peer;
static struct fi_context2 context;

static void peek(uint64_t tag, uint64_t ignore, uint64_t flags)
{
    struct fi_msg_tagged msg = {.addr = FI_ADDR_UNSPEC, .tag = tag, .ignore = ignore, .context = &context};
    RETRY(&node, fi_trecvmsg(node.ep, &msg, FI_PEEK | FI_COMPLETION | flags));
}

/* Until the message is there: a peek is allowed to find nothing while it is still under way. */
static void peek_until_found(uint64_t tag, uint64_t ignore, uint64_t flags, struct fi_cq_tagged_entry *entry)
{
    double limit = now_seconds() + WAIT_SECONDS;
    for (;;) {
        peek(tag, ignore, flags);
        ssize_t result;
        while ((result = fi_cq_read(node.cq, entry, 1)) == -FI_EAGAIN)
            CHECK(now_seconds() < limit, "no answer to a peek");
        if (result == 1)
            return;
        struct fi_cq_err_entry error = {0};
        RETURNS(-FI_EAVAIL, result);
        RETURNS(1, fi_cq_readerr(node.cq, &error, 0));
        CHECK(error.err == FI_ENOMSG, "%s", fi_strerror(error.err));
        CHECK(now_seconds() < limit, "the message does not come");
    }
}

static void not_there(uint64_t tag)
{
    struct fi_cq_err_entry error;
    peek(tag, 0, 0);
    error_completion(&node, &error);
    CHECK(error.err == FI_ENOMSG, "%s", fi_strerror(error.err));
    CHECK(error.op_context == &context, "an error entry of another operation");
}

static void take(uint64_t tag, size_t length, uint64_t seed)
{
    static uint8_t in[LARGE];
    struct fi_cq_tagged_entry entry;
    memset(in, 0, sizeof in);
    RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, tag, 0, &context));
    completion_of(&node, &context, &entry);
    CHECK(entry.len == length && entry.tag == tag, "len %zu tag %" PRIu64, entry.len, entry.tag);
    pattern_check(in, length, seed, "taken message");
}

static void sender(void)
{
    static uint8_t out[8][LARGE];
    static struct fi_context2 contexts[8];
    struct fi_cq_tagged_entry entry;
    for (unsigned i = 0; i < 8; i++) {
        size_t length = i % 2 ? LARGE : SMALL;
        pattern_fill(out[i], length, i);
        RETRY(&node, fi_tsend(node.ep, out[i], length, NULL, peer.address, i, &contexts[i]));
    }
    for (unsigned i = 0; i < 8; i++)
        completion(&node, &entry);
    meet(&peer, &node);
}

static void receiver(void)
{
    static uint8_t in[LARGE];
    struct fi_cq_tagged_entry entry;
    not_there(99);
    for (unsigned i = 0; i < 4; i++) {
        size_t length = i % 2 ? LARGE : SMALL;
        peek_until_found(i, 0, 0, &entry);
        CHECK(entry.len == length && entry.tag == i, "peek: len %zu tag %" PRIu64, entry.len, entry.tag);
        CHECK(entry.op_context == &context, "peek: another context");
    }
    not_there(99);
    take(1, LARGE, 1);
    not_there(1);
    take(0, SMALL, 0);

    /* Claimed: nobody else gets it, the claimer does. */
    for (unsigned i = 2; i < 4; i++) {
        size_t length = i % 2 ? LARGE : SMALL;
        struct iovec iov = {in, sizeof in};
        struct fi_msg_tagged claim = {.msg_iov = &iov, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .tag = i, .context = &context};
        peek_until_found(i, 0, FI_CLAIM, &entry);
        CHECK(entry.len == length, "claim: len %zu", entry.len);
        struct fi_context2 claimed = context;
        not_there(i);
        context = claimed;
        memset(in, 0, sizeof in);
        RETRY(&node, fi_trecvmsg(node.ep, &claim, FI_CLAIM | FI_COMPLETION));
        completion_of(&node, &context, &entry);
        CHECK(entry.len == length && entry.tag == i, "claimed: len %zu tag %" PRIu64, entry.len, entry.tag);
        pattern_check(in, length, i, "claimed message");
    }

    /* Discarded while peeking. */
    peek_until_found(4, 0, FI_DISCARD, &entry);
    not_there(4);
    peek_until_found(5, 0, FI_DISCARD, &entry);
    not_there(5);
    /* Claimed, then discarded. */
    for (unsigned i = 6; i < 8; i++) {
        struct fi_msg_tagged discard = {.addr = FI_ADDR_UNSPEC, .tag = i, .context = &context};
        peek_until_found(i, 0, FI_CLAIM, &entry);
        RETRY(&node, fi_trecvmsg(node.ep, &discard, FI_CLAIM | FI_DISCARD | FI_COMPLETION));
        completion_of(&node, &context, &entry);
        not_there(i);
    }
    meet(&peer, &node);
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_TAGGED});
    introduce(&peer, &node);
    if (first)
        sender();
    else
        receiver();
    close_node(&node);
    return finish_peer(&peer);
}
