/*
 * Two processes that both sleep while they wait: each is woken by a message that comes through memory, where nothing
 * makes a descriptor readable by itself. By fi_cq_sread, and by poll(2) on the queue's descriptor after fi_trywait.
 */
#include "local.h"

enum { ROUNDS = 2000, LONG_EVERY = 50, LONG = 100000 };
/* Were a wake-up lost, a timer would end the sleep after this long, at the earliest. */
static const double nap = 0.05;

static struct node node;
static struct peer peer;
static struct fi_context2 context;

static void by_sread(struct fi_cq_tagged_entry *entry)
{
    RETURNS(1, fi_cq_sread(node.cq, entry, 1, NULL, 1000 * WAIT_SECONDS));
}

static void by_poll(struct fi_cq_tagged_entry *entry)
{
    int fd = -1;
    OK(fi_control(&node.cq->fid, FI_GETWAIT, &fd));
    for (;;) {
        sleep_on(&node, fd);
        ssize_t count = fi_cq_read(node.cq, entry, 1);
        if (count == 1)
            return;
        RETURNS(-FI_EAGAIN, count);
    }
}

/* Each round needs the wake-up of the one before. Some messages are long: their sender sleeps until they are fetched. */
static double rounds(bool first, void (*wait)(struct fi_cq_tagged_entry *))
{
    static uint8_t out[LONG], in[LONG];
    double start = now_seconds();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        size_t length = i % LONG_EVERY == 0 ? LONG : 1 + i % 64;
        struct fi_cq_tagged_entry entry;
        unsigned left = 2;
        words_fill(out, length, i);
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, in));
        if (first)
            RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &context));
        while (left > 0) {
            wait(&entry);
            left--;
            if (entry.op_context != in)
                continue;
            CHECK(entry.len == length, "round %u: %zu bytes", i, entry.len);
            CHECK(words_match(in, length, i), "round %u: wrong bytes", i);
            if (!first)
                RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &context));
        }
    }
    return now_seconds() - start;
}

int main(void)
{
    bool first = !start_peer(&peer);
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    want_counters();
    open_node(&node, &(struct wish){.threading = FI_THREAD_SAFE, .wait = FI_WAIT_FD});
    introduce(&peer, &node);
    double sread = rounds(first, by_sread);
    meet(&peer, &node);
    double poll = rounds(first, by_poll);
    meet(&peer, &node);
    const char *counters = close_and_count(&node);
    CHECK(counter_in(counters, "links") == 1, "%s", counters);
    CHECK(counter_in(counters, "local_put") > 2 * ROUNDS * 9 / 10, "too little went through memory: %s", counters);
    CHECK(sread < ROUNDS * nap / 10 && poll < ROUNDS * nap / 10, "%d rounds took %.1f s by sread and %.1f s by poll",
          ROUNDS, sread, poll);
    if (first)
        printf("us a round: sread %.1f, poll %.1f\n", 1e6 * sread / ROUNDS, 1e6 * poll / ROUNDS);
    return finish_peer(&peer);
}
