/*
 * Several endpoints in one process: two of one domain that share a queue, a counter and an address vector; two
 * of two domains, each driven by a thread of its own; each talks to itself, to the other, and to many.
 */
#include "harness.h"
#include <pthread.h>

enum { ROUNDS = 300, LARGE = 100000, CROWD = 16 };

/* ---- one domain ---- */

static struct fid_ep *sibling_of(struct node *node, fi_addr_t *address)
{
    uint8_t name[NAME_BYTES];
    size_t length = sizeof name;
    struct fid_ep *ep;
    OK(fi_endpoint(node->domain, node->info, &ep, NULL));
    OK(fi_ep_bind(ep, &node->av->fid, 0));
    OK(fi_ep_bind(ep, &node->cq->fid, FI_TRANSMIT | FI_RECV));
    OK(fi_ep_bind(ep, &node->rx_counter->fid, FI_RECV));
    OK(fi_enable(ep));
    OK(fi_getname(&ep->fid, name, &length));
    CHECK(length == node->name_length && memcmp(name, node->name, length) != 0, "two endpoints of one name");
    *address = insert(node, name);
    return ep;
}

/* One message; both completions come to the one queue, and tell apart by context whose they are. */
static void talk(struct node *node, struct fid_ep *from, struct fid_ep *to, fi_addr_t source, fi_addr_t destination,
                 size_t length, uint64_t seed)
{
    static uint8_t out[LARGE], in[LARGE];
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    fi_addr_t who = FI_ADDR_NOTAVAIL;
    bool sent = false, received = false;
    double limit = now_seconds() + WAIT_SECONDS;
    pattern_fill(out, length, seed);
    memset(in, 0, length);
    RETRY(node, fi_trecv(to, in, length, NULL, source, 7, 0, &receive_context));
    RETRY(node, fi_tsend(from, out, length, NULL, destination, 7, &send_context));
    while (!sent || !received) {
        ssize_t result = fi_cq_readfrom(node->cq, &entry, 1, &who);
        CHECK(now_seconds() < limit, "no completion");
        if (result == -FI_EAGAIN)
            continue;
        RETURNS(1, result);
        if (entry.op_context == &send_context) {
            sent = true;
        } else {
            CHECK(entry.op_context == &receive_context && entry.len == length, "a completion of another operation");
            CHECK(who == source, "from %" PRIu64 ", sent by %" PRIu64, who, source);
            received = true;
        }
    }
    pattern_check(in, length, seed, "message between siblings");
}

static void siblings(void)
{
    struct node node;
    fi_addr_t addresses[CROWD];
    struct fid_ep *eps[CROWD];
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_SOURCE | FI_DIRECTED_RECV, .counters = true});
    eps[0] = node.ep;
    addresses[0] = insert(&node, node.name);
    for (unsigned i = 1; i < CROWD; i++)
        eps[i] = sibling_of(&node, &addresses[i]);
    for (unsigned from = 0; from < CROWD; from++)
        for (unsigned to = 0; to < CROWD; to++)
            talk(&node, eps[from], eps[to], addresses[from], addresses[to], (from + to) % 8 == 0 ? LARGE : 8, from * CROWD + to);
    CHECK(fi_cntr_read(node.rx_counter) == CROWD * CROWD, "%" PRIu64 " messages counted", fi_cntr_read(node.rx_counter));

    /* A message of one is none of the other's. */
    uint64_t in, word = 1;
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    RETRY(&node, fi_trecv(eps[1], &in, sizeof in, NULL, FI_ADDR_UNSPEC, 9, 0, &receive_context));
    RETRY(&node, fi_tsend(eps[0], &word, sizeof word, NULL, addresses[2], 9, &send_context));
    completion_of(&node, &send_context, &entry);
    no_completion(&node);
    OK(fi_cancel(&eps[1]->fid, &receive_context));
    struct fi_cq_err_entry error;
    error_completion(&node, &error);
    CHECK(error.err == FI_ECANCELED && error.op_context == &receive_context, "error %d", error.err);

    /* One ends, the others go on; what they share is in use until the last has ended. */
    OK(fi_close(&eps[2]->fid));
    talk(&node, eps[0], eps[1], addresses[0], addresses[1], LARGE, 1);
    RETURNS(-FI_EBUSY, fi_close(&node.cq->fid));
    RETURNS(-FI_EBUSY, fi_close(&node.av->fid));
    RETURNS(-FI_EBUSY, fi_close(&node.domain->fid));
    for (unsigned i = 1; i < CROWD; i++)
        if (i != 2)
            OK(fi_close(&eps[i]->fid));
    talk(&node, eps[0], eps[0], addresses[0], addresses[0], LARGE, 2);
    close_node(&node);
}

/* ---- a queue for each direction ---- */

static void a_queue_for_each_direction(void)
{
    struct node node;
    struct fid_cq *sends;
    struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_CONTEXT};
    struct fi_context2 send_context, receive_context;
    struct fi_cq_entry sent;
    struct fi_cq_tagged_entry received;
    uint64_t word = 3, in = 0;
    ssize_t result;
    open_domain(&node, &(struct wish){0});
    OK(fi_cq_open(node.domain, &attr, &sends, NULL));
    OK(fi_endpoint(node.domain, node.info, &node.ep, NULL));
    OK(fi_ep_bind(node.ep, &node.av->fid, 0));
    OK(fi_ep_bind(node.ep, &sends->fid, FI_TRANSMIT));
    RETURNS(-FI_EINVAL, fi_ep_bind(node.ep, &node.cq->fid, FI_TRANSMIT | FI_RECV));
    OK(fi_ep_bind(node.ep, &node.cq->fid, FI_RECV));
    OK(fi_enable(node.ep));
    node.name_length = sizeof node.name;
    OK(fi_getname(&node.ep->fid, node.name, &node.name_length));
    fi_addr_t self = insert(&node, node.name);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &receive_context));
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, self, 1, &send_context));
    completion_of(&node, &receive_context, &received);
    no_completion(&node);
    while ((result = fi_cq_read(sends, &sent, 1)) == -FI_EAGAIN)
        ;
    RETURNS(1, result);
    CHECK(sent.op_context == &send_context && in == word, "another operation");
    OK(fi_close(&node.ep->fid));
    node.ep = NULL;
    OK(fi_close(&sends->fid));
    close_node(&node);
}

/* ---- two domains, two threads ---- */

struct side {
    struct node node;
    fi_addr_t other;
    unsigned index;
};

static struct side sides[2];
static pthread_barrier_t both;

/* Each thread drives its own domain only: FI_THREAD_DOMAIN asks for no more. */
static void *drive(void *argument)
{
    struct side *side = argument;
    struct node *node = &side->node;
    uint8_t *out = malloc(LARGE), *in = malloc(LARGE);
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    CHECK(out != NULL && in != NULL, "no memory");
    for (uint64_t round = 0; round < ROUNDS; round++) {
        size_t length = round % 10 == 0 ? LARGE : 64;
        pattern_fill(out, length, 2 * round + side->index);
        RETRY(node, fi_trecv(node->ep, in, length, NULL, FI_ADDR_UNSPEC, round, 0, &receive_context));
        RETRY(node, fi_tsend(node->ep, out, length, NULL, side->other, round, &send_context));
        for (int ended = 0; ended < 2; ended++) {
            completion(node, &entry);
            CHECK(entry.op_context == &send_context || entry.op_context == &receive_context, "another operation");
        }
        pattern_check(in, length, 2 * round + !side->index, "message between domains");
    }
    pthread_barrier_wait(&both);
    close_node(node);
    free(out);
    free(in);
    return NULL;
}

static void domains(void)
{
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        open_node(&sides[i].node, &(struct wish){0});
        sides[i].index = i;
    }
    for (unsigned i = 0; i < 2; i++)
        sides[i].other = insert(&sides[i].node, sides[!i].node.name);
    /* Objects of different domains do not mix. */
    struct fid_ep *ep;
    OK(fi_endpoint(sides[0].node.domain, sides[0].node.info, &ep, NULL));
    CHECK(fi_ep_bind(ep, &sides[1].node.av->fid, 0) < 0, "an endpoint takes another domain's address vector");
    OK(fi_close(&ep->fid));
    pthread_barrier_init(&both, NULL, 2);
    for (unsigned i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, drive, &sides[i]) == 0, "no thread");
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&both);
}

/* ---- two domains, one thread ---- */

/* One is closed while what it injected waits for the other, which only this thread drives. */
static void one_thread(void)
{
    struct node nodes[2];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    uint64_t in = 0, word = 5;
    for (unsigned i = 0; i < 2; i++)
        open_node(&nodes[i], &(struct wish){0});
    fi_addr_t other = insert(&nodes[0], nodes[1].name);
    RETRY(&nodes[1], fi_trecv(nodes[1].ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
    RETRY(&nodes[0], fi_tinject(nodes[0].ep, &word, sizeof word, other, 1));
    double start = now_seconds();
    close_node(&nodes[0]);
    CHECK(now_seconds() - start < 3, "closing took %.1f s", now_seconds() - start);
    completion_of(&nodes[1], &context, &entry);
    CHECK(in == word, "received %" PRIu64, in);
    close_node(&nodes[1]);
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("not every provider shares queues and counters like this");
    siblings();
    a_queue_for_each_direction();
    domains();
    one_thread();
    return 0;
}
