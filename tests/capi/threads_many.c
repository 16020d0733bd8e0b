/*
 * FI_THREAD_SAFE with everything shared: eight threads, each with an endpoint of its own in one domain, send to one
 * another and write into one another's memory, while a ninth opens, uses and closes endpoints, regions and addresses.
 * With one completion queue for all and with one each, with and without a progress thread, through memory and by
 * datagrams: each in a process of its own. Every byte is checked, and every operation completes once.
 */
#include "harness.h"

#include <stdatomic.h>

/* A window is as long as there are others: no two writes of one go to the same place at a time. */
enum { THREADS = 8, WINDOW = 7, LARGEST = 3000, WRITTEN = 64 };
/* Rounds of a window, and lives of the ninth thread's endpoints. */
enum { ROUNDS = 25, LIVES_MIN = 3 };

/* Defined otherwise where it is to be shown what happens without the provider's locks. */
#ifndef THREADING
#define THREADING FI_THREAD_SAFE
#endif

enum kind { SEND, RECEIVE, WRITE, KINDS };

struct operation {
    struct fi_context2 context; /* first: a completion names the operation by it */
    unsigned thread;
    enum kind kind;
    uint64_t number;
    atomic_uint completed;
    uint8_t buffer[LARGEST];
};

/* What a thread has; others write into `region`, each into a place of its own. */
struct worker {
    unsigned number;
    struct fid_ep *ep;
    struct fid_cq *cq;
    struct fid_mr *mr;
    uint64_t key;
    fi_addr_t address;
    uint8_t region[THREADS][WRITTEN];
    struct operation ops[WINDOW][KINDS];
};

struct setting {
    bool shared_cq, progress_thread, local;
};

static struct node node;
static struct worker workers[THREADS];
static atomic_uint finished;

static size_t length_of(unsigned from, uint64_t number)
{
    return (from * 131 + number * 97) % LARGEST;
}

/* Whose turn it is to be written and sent to. */
static unsigned target_of(unsigned from, uint64_t number)
{
    return (from + 1 + (unsigned)(number % (THREADS - 1))) % THREADS;
}

static unsigned source_of(unsigned to, uint64_t number)
{
    return (to + THREADS - 1 - (unsigned)(number % (THREADS - 1))) % THREADS;
}

static uint64_t seed_of(unsigned from, uint64_t number)
{
    return (uint64_t)from << 32 | number;
}

/* How a thread's place in another's region is named. */
static uint64_t place_of(const struct worker *other, unsigned from)
{
    bool by_address = (node.info->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0;
    return by_address ? (uintptr_t)other->region[from] : from * (uint64_t)WRITTEN;
}

/* Any thread may take any completion of a queue that it reads. */
static void take_completions(struct fid_cq *cq)
{
    struct fi_cq_tagged_entry entries[4];
    ssize_t count = fi_cq_read(cq, entries, 4);
    if (count == -FI_EAVAIL) {
        struct fi_cq_err_entry error = {0};
        ssize_t errors = fi_cq_readerr(cq, &error, 0);
        /* Another thread may have been faster; that one fails the program. */
        if (errors == -FI_EAGAIN)
            return;
        FAIL("an operation failed: %s, flags 0x%" PRIx64, fi_strerror(error.err), error.flags);
    }
    CHECK(count > 0 || count == -FI_EAGAIN, "fi_cq_read: %zd (%s)", count, fi_strerror((int)-count));
    for (ssize_t i = 0; i < count; i++) {
        struct operation *op = entries[i].op_context;
        if (op->kind == RECEIVE) {
            unsigned from = source_of(op->thread, op->number);
            size_t length = length_of(from, op->number);
            CHECK(entries[i].len == length, "len %zu, expected %zu", entries[i].len, length);
            pattern_check(op->buffer, length, seed_of(from, op->number), "received");
        }
        CHECK(atomic_fetch_add(&op->completed, 1) == 0, "operation %d of thread %u completed twice", op->kind, op->thread);
    }
}

static void begin_operation(struct worker *self, struct operation *op, enum kind kind, uint64_t number)
{
    struct worker *other = &workers[target_of(self->number, number)];
    double limit = now_seconds() + WAIT_SECONDS;
    ssize_t result;
    op->thread = self->number;
    op->kind = kind;
    op->number = number;
    atomic_store(&op->completed, 0);
    if (kind != RECEIVE)
        pattern_fill(op->buffer, kind == SEND ? length_of(self->number, number) : WRITTEN, seed_of(self->number, number));
    for (;;) {
        if (kind == RECEIVE)
            result = fi_trecv(self->ep, op->buffer, LARGEST, NULL, FI_ADDR_UNSPEC, number, 0, op);
        else if (kind == SEND)
            result = fi_tsend(self->ep, op->buffer, length_of(self->number, number), NULL, other->address, number, op);
        else
            result = fi_write(self->ep, op->buffer, WRITTEN, NULL, other->address, place_of(other, self->number),
                              other->key, op);
        if (result != -FI_EAGAIN)
            break;
        take_completions(self->cq);
        CHECK(now_seconds() < limit, "still -FI_EAGAIN");
    }
    RETURNS(0, result);
}

static void *work(void *argument)
{
    struct worker *self = argument;
    for (uint64_t number = 0; number < ROUNDS * WINDOW; number += WINDOW) {
        for (unsigned i = 0; i < WINDOW; i++)
            for (enum kind kind = SEND; kind < KINDS; kind++)
                begin_operation(self, &self->ops[i][kind], kind, number + i);
        double limit = now_seconds() + WAIT_SECONDS;
        for (unsigned i = 0; i < WINDOW; i++)
            for (enum kind kind = SEND; kind < KINDS; kind++)
                while (atomic_load(&self->ops[i][kind].completed) == 0) {
                    take_completions(self->cq);
                    CHECK(now_seconds() < limit, "operation %d of thread %u does not complete", kind, self->number);
                }
    }
    atomic_fetch_add(&finished, 1);
    /* Others may need our progress. */
    for (double limit = now_seconds() + WAIT_SECONDS; atomic_load(&finished) < THREADS;) {
        take_completions(self->cq);
        CHECK(now_seconds() < limit, "others do not come to an end");
    }
    return NULL;
}

static struct fid_ep *open_endpoint(struct fid_cq *cq, fi_addr_t *address)
{
    uint8_t name[NAME_BYTES];
    size_t length = sizeof name;
    struct fid_ep *ep;
    OK(fi_endpoint(node.domain, node.info, &ep, NULL));
    OK(fi_ep_bind(ep, &node.av->fid, 0));
    OK(fi_ep_bind(ep, &cq->fid, FI_TRANSMIT | FI_RECV));
    OK(fi_enable(ep));
    OK(fi_getname(&ep->fid, name, &length));
    *address = insert(&node, name);
    return ep;
}

static struct fid_cq *open_cq(void)
{
    struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_TAGGED};
    struct fid_cq *cq;
    OK(fi_cq_open(node.domain, &attr, &cq, NULL));
    return cq;
}

/* The ninth thread: what it opens lives for one message. */
static void live_once(unsigned life)
{
    static struct fi_context2 sent, received;
    struct fid_cq *cq = open_cq();
    fi_addr_t addresses[2];
    struct fid_ep *eps[2] = {open_endpoint(cq, &addresses[0]), open_endpoint(cq, &addresses[1])};
    uint64_t out = life, in = ~out;
    struct fid_mr *mr;
    OK(fi_mr_reg(node.domain, &in, sizeof in, FI_REMOTE_WRITE, 0, THREADS, 0, &mr, NULL));
    OK(fi_trecv(eps[1], &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &received));
    OK(fi_tsend(eps[0], &out, sizeof out, NULL, addresses[1], 1, &sent));
    double limit = now_seconds() + WAIT_SECONDS;
    for (unsigned completions = 0; completions < 2;) {
        struct fi_cq_tagged_entry entry;
        ssize_t count = fi_cq_read(cq, &entry, 1);
        CHECK(count == 1 || count == -FI_EAGAIN, "fi_cq_read: %zd", count);
        completions += count == 1;
        CHECK(now_seconds() < limit, "the message of life %u does not complete", life);
    }
    CHECK(in == out, "received %" PRIu64 ", sent %" PRIu64, in, out);
    OK(fi_close(&mr->fid));
    for (int i = 0; i < 2; i++) {
        OK(fi_close(&eps[i]->fid));
        OK(fi_av_remove(node.av, &addresses[i], 1, 0));
    }
    OK(fi_close(&cq->fid));
}

static void *live(void *lives)
{
    while (atomic_load(&finished) < THREADS || *(unsigned *)lives < LIVES_MIN)
        live_once((*(unsigned *)lives)++);
    return NULL;
}

static void check_regions(void)
{
    /* Between two threads the last write of all that went from one to the other is what stays. */
    for (unsigned from = 0; from < THREADS; from++)
        for (uint64_t number = ROUNDS * WINDOW - (THREADS - 1); number < ROUNDS * WINDOW; number++)
            pattern_check(workers[target_of(from, number)].region[from], WRITTEN, seed_of(from, number), "written");
}

static void run(const struct setting *setting)
{
    pthread_t threads[THREADS], ninth;
    unsigned lives = 0;
    setenv("FI_RDGRAM_LOCAL", setting->local ? "auto" : "off", 1);
    open_domain(&node, &(struct wish){
        .caps = FI_MSG | FI_TAGGED | FI_RMA,
        .threading = THREADING,
        .data_progress = setting->progress_thread ? FI_PROGRESS_AUTO : FI_PROGRESS_MANUAL,
    });
    for (unsigned i = 0; i < THREADS; i++) {
        struct worker *worker = &workers[i];
        worker->number = i;
        worker->cq = setting->shared_cq ? node.cq : open_cq();
        worker->ep = open_endpoint(worker->cq, &worker->address);
        OK(fi_mr_reg(node.domain, worker->region, sizeof worker->region, FI_REMOTE_WRITE, 0, i, 0, &worker->mr, NULL));
        if ((node.info->domain_attr->mr_mode & FI_MR_ENDPOINT) != 0) {
            OK(fi_mr_bind(worker->mr, &worker->ep->fid, 0));
            OK(fi_mr_enable(worker->mr));
        }
        worker->key = fi_mr_key(worker->mr);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0, "no thread");
    CHECK(pthread_create(&ninth, NULL, live, &lives) == 0, "no thread");
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0, "join");
    CHECK(pthread_join(ninth, NULL) == 0, "join");
    check_regions();
    for (unsigned i = 0; i < THREADS; i++) {
        OK(fi_close(&workers[i].mr->fid));
        OK(fi_close(&workers[i].ep->fid));
        if (!setting->shared_cq)
            OK(fi_close(&workers[i].cq->fid));
    }
    close_node(&node);
}

int main(void)
{
    begin("");
    for (unsigned bits = 0; bits < 8; bits++) {
        const struct setting setting = {.shared_cq = bits & 1, .progress_thread = bits & 2, .local = bits & 4};
        pid_t pid = fork();
        CHECK(pid >= 0, "%s", strerror(errno));
        if (pid == 0) {
            char role[64];
            snprintf(role, sizeof role, "%s, %s progress, %s", setting.shared_cq ? "one queue" : "queues for each",
                     setting.progress_thread ? "automatic" : "manual", setting.local ? "memory" : "datagrams");
            begin(role);
            run(&setting);
            return 0;
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
        CHECK(WIFEXITED(status), "a process ended with status 0x%x", status);
        if (WEXITSTATUS(status) != 0)
            return WEXITSTATUS(status);
    }
    return 0;
}
