/*
 * FI_THREAD_SAFE: four threads share one endpoint and one queue, sending, receiving and reading completions
 * at once; every message arrives once, and every operation completes once.
 */
#include "harness.h"

enum { THREADS = 4, EACH = 2000, LARGEST = 2000 };

struct operation {
    struct fi_context2 context; /* first: a completion names the operation by it */
    unsigned thread, number;
    bool receive;
    int completed;
    uint8_t buffer[LARGEST];
};

static struct node node;
static struct peer peer;
static struct operation sends[THREADS][EACH], receives[THREADS][EACH];
static unsigned left = 2 * THREADS * EACH;

static size_t length_of(unsigned thread, unsigned number)
{
    return (thread * 31 + number * 97) % LARGEST;
}

static uint64_t tag_of(unsigned thread, unsigned number)
{
    return (uint64_t)thread << 32 | number;
}

/* Any thread may take any completion. */
static void take_completions(void)
{
    struct fi_cq_tagged_entry entries[4];
    ssize_t count = fi_cq_read(node.cq, entries, 4);
    CHECK(count > 0 || count == -FI_EAGAIN, "fi_cq_read: %zd (%s)", count, fi_strerror((int)-count));
    for (ssize_t i = 0; i < count; i++) {
        struct operation *operation = entries[i].op_context;
        CHECK(__atomic_fetch_add(&operation->completed, 1, __ATOMIC_RELAXED) == 0, "completed twice: %s %u of thread %u",
              operation->receive ? "receive" : "send", operation->number, operation->thread);
        if (operation->receive) {
            size_t length = length_of(operation->thread, operation->number);
            CHECK(entries[i].len == length, "len %zu, expected %zu", entries[i].len, length);
            pattern_check(operation->buffer, length, tag_of(operation->thread, operation->number), "received");
        }
        __atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED);
    }
}

static void insist(ssize_t (*call)(struct operation *), struct operation *operation)
{
    double limit = now_seconds() + WAIT_SECONDS;
    ssize_t result;
    while ((result = call(operation)) == -FI_EAGAIN) {
        take_completions();
        CHECK(now_seconds() < limit, "still -FI_EAGAIN");
    }
    RETURNS(0, result);
}

static ssize_t post_send(struct operation *op)
{
    size_t length = length_of(op->thread, op->number);
    return fi_tsend(node.ep, op->buffer, length, NULL, peer.address, tag_of(op->thread, op->number), op);
}

static ssize_t post_receive(struct operation *op)
{
    size_t length = length_of(op->thread, op->number);
    return fi_trecv(node.ep, op->buffer, length, NULL, FI_ADDR_UNSPEC, tag_of(op->thread, op->number), 0, op);
}

static void *work(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    double limit = now_seconds() + 2 * WAIT_SECONDS;
    for (unsigned i = 0; i < EACH; i++) {
        struct operation *receive = &receives[thread][i], *send = &sends[thread][i];
        *receive = (struct operation){.thread = thread, .number = i, .receive = true};
        send->thread = thread;
        send->number = i;
        pattern_fill(send->buffer, length_of(thread, i), tag_of(thread, i));
        insist(post_receive, receive);
        insist(post_send, send);
        if (i % 8 == 0)
            take_completions();
    }
    while (__atomic_load_n(&left, __ATOMIC_RELAXED) != 0) {
        take_completions();
        CHECK(now_seconds() < limit, "%u operations do not complete", __atomic_load_n(&left, __ATOMIC_RELAXED));
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    start_peer(&peer);
    open_node(&node, &(struct wish){.threading = FI_THREAD_SAFE});
    introduce(&peer, &node);
    meet(&peer, &node);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "no thread");
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0, "join");
    meet(&peer, &node);
    close_node(&node);
    return finish_peer(&peer);
}
