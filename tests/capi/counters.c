/*
 * Counters: one per operation, injected ones too; reading makes progress; waiting for a threshold, in vain
 * and with success; errors are counted apart; set and add.
 */
#include "harness.h"

enum { MESSAGES = 100 };

static struct node node;
static struct peer peer;

static void reach(struct fid_cntr *counter, uint64_t value, const char *what)
{
    double limit = now_seconds() + WAIT_SECONDS;
    while (fi_cntr_read(counter) < value)
        if (now_seconds() > limit)
            FAIL("%s: %" PRIu64 " of %" PRIu64, what, fi_cntr_read(counter), value);
    CHECK(fi_cntr_read(counter) == value, "%s: %" PRIu64 " instead of %" PRIu64, what, fi_cntr_read(counter), value);
}

static void sender(void)
{
    static struct fi_context2 contexts[MESSAGES];
    uint64_t out = 7;
    meet(&peer, &node);
    for (int i = 0; i < MESSAGES; i++) {
        if (i % 2)
            RETRY(&node, fi_inject(node.ep, &out, sizeof out, peer.address));
        else
            RETRY(&node, fi_tsend(node.ep, &out, sizeof out, NULL, peer.address, 3, &contexts[i]));
    }
    reach(node.tx_counter, MESSAGES, "sent");
    OK(fi_cntr_wait(node.tx_counter, MESSAGES, 1000));
    double start = now_seconds();
    RETURNS(-FI_ETIMEDOUT, fi_cntr_wait(node.tx_counter, MESSAGES + 1, 200));
    CHECK(now_seconds() - start >= 0.19, "the wait ended early");
    OK(fi_cntr_set(node.tx_counter, 10));
    reach(node.tx_counter, 10, "set");
    OK(fi_cntr_add(node.tx_counter, 5));
    reach(node.tx_counter, 15, "added");
    CHECK(fi_cntr_readerr(node.tx_counter) == 0, "errors: %" PRIu64, fi_cntr_readerr(node.tx_counter));
    meet(&peer, &node);
}

static void receiver(void)
{
    static struct fi_context2 contexts[MESSAGES];
    static uint64_t in[MESSAGES];
    for (int i = 0; i < MESSAGES; i++) {
        if (i % 2)
            RETRY(&node, fi_recv(node.ep, &in[i], sizeof in[i], NULL, FI_ADDR_UNSPEC, &contexts[i]));
        else
            RETRY(&node, fi_trecv(node.ep, &in[i], sizeof in[i], NULL, FI_ADDR_UNSPEC, 3, 0, &contexts[i]));
    }
    meet(&peer, &node);
    OK(fi_cntr_wait(node.rx_counter, MESSAGES, 1000 * WAIT_SECONDS));
    reach(node.rx_counter, MESSAGES, "received");
    /* A cancelled receive is an error, not a success. */
    if (provider_is_ours()) {
        RETRY(&node, fi_trecv(node.ep, &in[0], sizeof in[0], NULL, FI_ADDR_UNSPEC, 4, 0, &contexts[0]));
        OK(fi_cancel(&node.ep->fid, &contexts[0]));
        double limit = now_seconds() + WAIT_SECONDS;
        while (fi_cntr_readerr(node.rx_counter) != 1)
            CHECK(now_seconds() < limit, "errors: %" PRIu64, fi_cntr_readerr(node.rx_counter));
        reach(node.rx_counter, MESSAGES, "received, after a cancellation");
    }
    meet(&peer, &node);
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.counters = true});
    introduce(&peer, &node);
    if (first)
        sender();
    else
        receiver();
    close_node(&node);
    return finish_peer(&peer);
}
