/*
 * kill -9 of the other process: whatever is outstanding to it, and whatever is sent after, ends in error
 * entries within seconds; nothing hangs, other traffic goes on, and everything closes.
 */
#include "harness.h"

enum { OUTSTANDING = 20, LARGE = 4 << 20, SECONDS = 20 };

static struct node node;
static struct peer peer;

static void victim(void)
{
    uint64_t in;
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
    completion_of(&node, &context, &entry);
    RETRY(&node, fi_tsend(node.ep, &in, sizeof in, NULL, peer.address, 2, &context));
    completion_of(&node, &context, &entry);
    meet(&peer, &node);
    /* From here on it is silent, and then dead. */
    for (;;)
        pause();
}

static void send_one(unsigned i, struct fi_context2 *context, uint8_t *large)
{
    static uint64_t small = 5;
    double limit = now_seconds() + SECONDS;
    for (;;) {
        ssize_t result = i % 4 == 3 ? fi_tsend(node.ep, large, LARGE, NULL, peer.address, 100 + i, context)
                                    : fi_tsend(node.ep, &small, sizeof small, NULL, peer.address, 100 + i, context);
        if (result == 0)
            return;
        RETURNS(-FI_EAGAIN, result);
        progress(&node);
        CHECK(now_seconds() < limit, "sending to the dead does not end in -FI_EAGAIN for ever");
    }
}

/* Every operation ends, in error or because it had been delivered; returns the number of errors. */
static unsigned wait_for_all(unsigned count, const char *what)
{
    unsigned ended = 0, errors = 0;
    double limit = now_seconds() + SECONDS;
    while (ended < count) {
        struct fi_cq_tagged_entry entry;
        ssize_t result = fi_cq_read(node.cq, &entry, 1);
        if (result == 1) {
            ended++;
        } else if (result == -FI_EAVAIL) {
            struct fi_cq_err_entry error = {0};
            RETURNS(1, fi_cq_readerr(node.cq, &error, 0));
            CHECK(error.err > 0, "an error entry without an error");
            CHECK(fi_cq_strerror(node.cq, error.prov_errno, error.err_data, NULL, 0) != NULL, "no text for an error");
            ended++;
            errors++;
        } else {
            RETURNS(-FI_EAGAIN, result);
        }
        CHECK(now_seconds() < limit, "%s: %u of %u operations have not ended after %d s", what, count - ended, count,
              SECONDS);
    }
    return errors;
}

int main(void)
{
    static struct fi_context2 contexts[OUTSTANDING];
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    uint64_t word = 3, in;
    int status;
    bool second = start_peer(&peer);
    open_node(&node, &(struct wish){0});
    introduce(&peer, &node);
    if (second)
        victim();
    uint8_t *large = calloc(1, LARGE);
    CHECK(large != NULL, "no memory");
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, peer.address, 1, &send_context));
    completion_of(&node, &send_context, &entry);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 2, 0, &receive_context));
    completion_of(&node, &receive_context, &entry);
    meet(&peer, &node);

    for (unsigned i = 0; i < OUTSTANDING; i++)
        send_one(i, &contexts[i], large);
    CHECK(kill(peer.pid, SIGKILL) == 0, "%s", strerror(errno));
    CHECK(waitpid(peer.pid, &status, 0) == peer.pid, "%s", strerror(errno));
    CHECK(WIFSIGNALED(status), "the second process ended by itself, status 0x%x", (unsigned)status);
    unsigned errors = wait_for_all(OUTSTANDING, "outstanding");
    CHECK(errors > 0, "messages to a dead process were all delivered");
    for (unsigned i = 0; i < 4; i++)
        send_one(i, &contexts[i], large);
    errors = wait_for_all(4, "sent after death");
    CHECK(errors == 4, "%u of 4 messages to the dead ended in error", errors);

    /* The endpoint itself is fine. */
    fi_addr_t self = insert(&node, node.name);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 9, 0, &receive_context));
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, self, 9, &send_context));
    completion(&node, &entry);
    completion(&node, &entry);
    double start = now_seconds();
    close_node(&node);
    CHECK(now_seconds() - start < 5, "closing took %.1f s", now_seconds() - start);
    free(large);
    return 0;
}
