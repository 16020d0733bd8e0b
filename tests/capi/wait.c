/*
 * Waiting: sread with a time limit, woken by a completion and by a signal; a descriptor that becomes readable
 * when something is to be done and, after fi_trywait, only then; all of it with nobody making progress but
 * the waiter. Then without pauses: two processes that mix all ways of waiting lose no wake-up in 10^5 rounds,
 * and one that waits for nothing does not run.
 */
#include "harness.h"
#include <sys/resource.h>

enum { ROUNDS = 50, RANDOM_ROUNDS = 100000, IDLE_MS = 1000 };

static struct node node;
static struct peer peer;
static struct fi_context2 context;

static void sread_times_out(void)
{
    struct fi_cq_tagged_entry entry;
    double start = now_seconds();
    RETURNS(-FI_EAGAIN, fi_cq_sread(node.cq, &entry, 1, NULL, 200));
    double waited = now_seconds() - start;
    CHECK(waited >= 0.19 && waited < 5, "waited %.3f s instead of 0.2 s", waited);
    RETURNS(-FI_EAGAIN, fi_cq_sread(node.cq, &entry, 1, NULL, 0));
}

/* The other process answers each message after a pause, so that this one really sleeps. */
static void sread_wakes(void)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t in = 0;
        bool sent = false, received = false;
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, &in));
        RETRY(&node, fi_tsend(node.ep, &i, sizeof i, NULL, peer.address, i, &context));
        while (!sent || !received) {
            struct fi_cq_tagged_entry entry;
            ssize_t result = fi_cq_sread(node.cq, &entry, 1, NULL, 1000 * WAIT_SECONDS);
            RETURNS(1, result);
            if (entry.op_context == &context)
                sent = true;
            else
                received = true;
        }
        CHECK(in == i + 1, "answer %u to %u", in, i);
    }
}

/* As an event loop does it: trywait, poll, read. */
static void descriptor(void)
{
    int fd = -1;
    struct fid *fids[] = {&node.cq->fid};
    OK(fi_control(&node.cq->fid, FI_GETWAIT, &fd));
    CHECK(fd >= 0, "descriptor %d", fd);
    for (uint32_t i = ROUNDS; i < 2 * ROUNDS; i++) {
        uint32_t in = 0;
        unsigned done = 0, idle_wakes = 0;
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, &in));
        RETRY(&node, fi_tsend(node.ep, &i, sizeof i, NULL, peer.address, i, &context));
        while (done < 2) {
            struct fi_cq_tagged_entry entry;
            sleep_on(&node, fd);
            ssize_t count = fi_cq_read(node.cq, &entry, 1);
            CHECK(count == 1 || count == -FI_EAGAIN, "fi_cq_read: %zd", count);
            if (count == 1)
                done++;
            else
                CHECK(++idle_wakes < 1000, "the descriptor is readable all the time");
        }
        CHECK(in == i + 1, "answer %u to %u", in, i);
    }
    /* Nothing is to be done any more: the descriptor must fall silent. */
    for (int attempt = 0;; attempt++) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        progress(&node);
        if (fi_trywait(node.fabric, fids, 1) == 0 && poll(&pollfd, 1, 50) == 0)
            break;
        CHECK(attempt < 200, "the descriptor stays readable with nothing to do");
    }
}

static void *signal_later(void *unused UNUSED)
{
    usleep(200000);
    OK(fi_cq_signal(node.cq));
    return NULL;
}

static void signal_wakes(void)
{
    pthread_t thread;
    struct fi_cq_tagged_entry entry;
    double start = now_seconds();
    CHECK(pthread_create(&thread, NULL, signal_later, NULL) == 0, "no thread");
    RETURNS(-FI_EAGAIN, fi_cq_sread(node.cq, &entry, 1, NULL, 1000 * WAIT_SECONDS));
    CHECK(now_seconds() - start < 10, "a signal does not wake");
    CHECK(pthread_join(thread, NULL) == 0, "join");
}

/* One completion, by a way of waiting that the next random number chooses. */
static void wait_somehow(uint32_t *random, int fd)
{
    struct fid *fids[] = {&node.cq->fid};
    struct fi_cq_tagged_entry entry;
    for (;;) {
        ssize_t count;
        *random = *random * 1664525 + 1013904223;
        switch (*random >> 28) {
        case 0: /* polls for a while */
            count = fi_cq_read(node.cq, &entry, 1);
            for (unsigned i = *random >> 18 & 1023; count == -FI_EAGAIN && i > 0; i--)
                count = fi_cq_read(node.cq, &entry, 1);
            break;
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
            count = fi_cq_sread(node.cq, &entry, 1, NULL, 1000 * WAIT_SECONDS);
            RETURNS(1, count);
            break;
        default:
            if (fi_trywait(node.fabric, fids, 1) == 0) {
                struct pollfd pollfd = {.fd = fd, .events = POLLIN};
                CHECK(poll(&pollfd, 1, 1000 * WAIT_SECONDS) == 1, "a wake-up was missed");
            }
            count = fi_cq_read(node.cq, &entry, 1);
        }
        if (count == 1)
            return;
        RETURNS(-FI_EAGAIN, count);
    }
}

/* Ping-pong: every round needs the wake-up of the one before. */
static void random_rounds(bool first)
{
    uint32_t random = first ? 1 : 2;
    int fd = -1;
    OK(fi_control(&node.cq->fid, FI_GETWAIT, &fd));
    for (uint32_t i = 0; i < RANDOM_ROUNDS; i++) {
        uint32_t in = 0;
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
        if (first)
            RETRY(&node, fi_tinject(node.ep, &i, sizeof i, peer.address, 1));
        wait_somehow(&random, fd);
        CHECK(in == i, "round %u: %u", i, in);
        if (!first)
            RETRY(&node, fi_tinject(node.ep, &i, sizeof i, peer.address, 1));
        /* The tests of every wake-up at full length take their time on a busy machine. */
        if (i % 1000 == 0)
            alarm(PROGRAM_SECONDS);
    }
}

/* An event loop with nothing to do sleeps: the kernel's own counts, so other load on the machine does not matter. */
static void idles(void)
{
    struct fid *fids[] = {&node.cq->fid};
    struct rusage before, after;
    unsigned loops = 0;
    int fd = -1;
    OK(fi_control(&node.cq->fid, FI_GETWAIT, &fd));
    getrusage(RUSAGE_SELF, &before);
    double end = now_seconds() + IDLE_MS / 1000.0;
    for (double left; (left = end - now_seconds()) > 0; loops++) {
        struct fi_cq_tagged_entry entry;
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        RETURNS(-FI_EAGAIN, fi_cq_read(node.cq, &entry, 1));
        if (fi_trywait(node.fabric, fids, 1) == 0)
            poll(&pollfd, 1, 1 + (int)(1000 * left));
    }
    getrusage(RUSAGE_SELF, &after);
    long switches = after.ru_nvcsw - before.ru_nvcsw;
    CHECK(loops < 20 && switches < 40, "%u loops and %ld sleeps in %d idle ms", loops, switches, IDLE_MS);
    double start = now_seconds();
    struct fi_cq_tagged_entry entry;
    RETURNS(-FI_EAGAIN, fi_cq_sread(node.cq, &entry, 1, NULL, IDLE_MS));
    CHECK(now_seconds() - start >= 0.99 * IDLE_MS / 1000, "sread returned early");
    getrusage(RUSAGE_SELF, &before);
    switches = before.ru_nvcsw - after.ru_nvcsw;
    CHECK(switches < 20, "%ld sleeps in %d ms of one blocking read", switches, IDLE_MS);
}

static void answer(void)
{
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        uint32_t in;
        struct fi_cq_tagged_entry entry;
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, &context));
        completion_of(&node, &context, &entry);
        usleep(2000);
        in++;
        RETRY(&node, fi_tsend(node.ep, &in, sizeof in, NULL, peer.address, i, &context));
        completion_of(&node, &context, &entry);
    }
}

int main(void)
{
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.threading = FI_THREAD_SAFE, .wait = FI_WAIT_FD});
    introduce(&peer, &node);
    if (first) {
        sread_times_out();
        sread_wakes();
        descriptor();
        signal_wakes();
    } else {
        answer();
    }
    meet(&peer, &node);
    if (provider_is_ours()) {
        random_rounds(first);
        meet(&peer, &node);
        /* What is still to be acknowledged is, and then both are idle at the same time. */
        for (double start = now_seconds(); now_seconds() - start < 0.3;)
            progress(&node);
        meet(&peer, &node);
        idles();
        meet(&peer, &node);
    }
    close_node(&node);
    return finish_peer(&peer);
}
