/*
 * Where one process may not read another's memory (a filter of system calls lets process_vm_readv fail, as containers
 * do), or is told not to (FI_RDGRAM_DMA=memcpy): messages of all sizes, writes, reads and atomics between processes of
 * one host come right all the same, copied through shared memory. And where it may, long messages are not copied so.
 */
#include "local.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <rdma/fi_atomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { REGION = 4 << 20, ADDS = 500, BATCH = 16 };

struct scenario {
    const char *name;
    void (*first)(void), (*second)(void);
};

static struct node node;
static struct peer peer;
static struct fi_context2 context;

struct remote {
    uint64_t base, key;
};

static const size_t sizes[] = {0,         1,     8,         200,       250,     4096,    16384,  16385,
                               64 << 10, 65537, 256 << 10, 1000003, 1 << 20, REGION - 1, REGION};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void deny(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "%s", strerror(errno));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        skip("no filter of system calls can be installed here: %s", strerror(errno));
    struct iovec none = {0};
    CHECK(process_vm_readv(getpid(), &none, 1, &none, 1, 0) == -1 && errno == EPERM, "the filter does nothing");
}

static void use_memcpy(void)
{
    setenv("FI_RDGRAM_DMA", "memcpy", 1);
}

static void permit(void)
{
    unsetenv("FI_RDGRAM_DMA");
}

/* The control: what pulls is counted. */
static const struct scenario scenarios[] = {
    {"denied", deny, deny},
    {"memcpy", use_memcpy, use_memcpy},
    {"denied to one", deny, permit},
    {"free", permit, permit},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static void done(void)
{
    struct fi_cq_tagged_entry entry;
    completion_of(&node, &context, &entry);
}

/* Batches of small ones so that peers are met and long ones have company, both ways at once. */
static void messages(bool first)
{
    static struct fi_context2 contexts[2][BATCH];
    static uint8_t out[REGION], in[REGION], small_out[BATCH], small_in[BATCH];
    for (unsigned i = 0; i < SIZES; i++) {
        uint64_t seed = 2 * i + first, other = 2 * i + !first;
        unsigned ended = 0;
        words_fill(out, sizes[i], seed);
        memset(in, 0, sizes[i]);
        memset(small_in, 0, sizeof small_in);
        for (unsigned k = 0; k < BATCH; k++) {
            void *from = k == BATCH / 2 ? out : &small_out[k], *to = k == BATCH / 2 ? in : &small_in[k];
            size_t length = k == BATCH / 2 ? sizes[i] : 1;
            small_out[k] = (uint8_t)(i + k + 1);
            RETRY(&node, fi_tsend(node.ep, from, length, NULL, peer.address, k, &contexts[0][k]));
            /* Every other round the messages come before their receives. */
            if (i % 2 == 0)
                RETRY(&node, fi_trecv(node.ep, to, length, NULL, FI_ADDR_UNSPEC, k, 0, &contexts[1][k]));
        }
        if (i % 2 == 1) {
            meet(&peer, &node);
            for (unsigned k = 0; k < BATCH; k++)
                RETRY(&node, fi_trecv(node.ep, k == BATCH / 2 ? in : &small_in[k], k == BATCH / 2 ? sizes[i] : 1, NULL,
                                      FI_ADDR_UNSPEC, k, 0, &contexts[1][k]));
        }
        for (; ended < 2 * BATCH; ended++) {
            struct fi_cq_tagged_entry entry;
            completion(&node, &entry);
        }
        CHECK(words_match(in, sizes[i], other), "a message of %zu bytes is wrong", sizes[i]);
        for (unsigned k = 0; k < BATCH; k++)
            CHECK(k == BATCH / 2 || small_in[k] == (uint8_t)(i + k + 1), "message %u beside one of %zu bytes is wrong", k,
                  sizes[i]);
    }
    meet(&peer, &node);
}

static void write_and_read(const struct remote *remote)
{
    static uint8_t local[REGION];
    for (unsigned i = 0; i < SIZES; i++) {
        struct iovec iov = {local, sizes[i]};
        struct fi_rma_iov place = {remote->base, sizes[i], remote->key};
        struct fi_msg_rma msg = {.msg_iov = &iov, .iov_count = 1, .addr = peer.address, .rma_iov = &place,
                                 .rma_iov_count = 1, .context = &context};
        words_fill(local, sizes[i], 1000 + i);
        RETRY(&node, fi_writemsg(node.ep, &msg, FI_DELIVERY_COMPLETE | FI_COMPLETION));
        done();
        memset(local, 0, sizes[i]);
        RETRY(&node, fi_read(node.ep, local, sizes[i], NULL, peer.address, remote->base, remote->key, &context));
        done();
        CHECK(words_match(local, sizes[i], 1000 + i), "%zu bytes read back are wrong", sizes[i]);
    }
}

/* Both add to one counter; returns the sum of what was there before each addition. */
static void add(fi_addr_t target, const struct remote *count)
{
    const uint64_t one = 1;
    uint64_t last = 0, old;
    for (unsigned i = 0; i < ADDS; i++) {
        RETRY(&node, fi_fetch_atomic(node.ep, &one, 1, NULL, &old, NULL, target, count->base, count->key, FI_UINT64,
                                     FI_SUM, &context));
        done();
        CHECK(i == 0 || old > last, "%" PRIu64 " after %" PRIu64, old, last);
        last = old;
    }
}

static void one_sided(bool first)
{
    static uint8_t memory[REGION];
    static volatile uint64_t count;
    struct fid_mr *regions[2];
    struct remote ours[2], theirs[2];
    void *places[] = {memory, (void *)(uintptr_t)&count};
    size_t lengths[] = {sizeof memory, sizeof count};
    bool virtual_addresses = (node.info->domain_attr->mr_mode & (FI_MR_VIRT_ADDR | FI_MR_BASIC)) != 0;
    for (unsigned i = 0; i < 2; i++) {
        OK(fi_mr_reg(node.domain, places[i], lengths[i], FI_REMOTE_READ | FI_REMOTE_WRITE, 0, 1 + i, 0, &regions[i],
                     NULL));
        ours[i] = (struct remote){virtual_addresses ? (uintptr_t)places[i] : 0, fi_mr_key(regions[i])};
    }
    tell(&peer, ours, sizeof ours);
    hear(&peer, theirs, sizeof theirs);
    /* Both at the same time, each into the memory of the other. */
    write_and_read(&theirs[0]);
    meet(&peer, &node);
    CHECK(words_match(memory, REGION, 1000 + SIZES - 1), "what was written is wrong");
    add(first ? insert(&node, node.name) : peer.address, first ? &ours[1] : &theirs[1]);
    meet(&peer, &node);
    CHECK(count == (first ? 2 * ADDS : 0), "%" PRIu64 " additions", count);
    for (unsigned i = 0; i < 2; i++)
        OK(fi_close(&regions[i]->fid));
}

/* May one process of ours read another's memory here at all? */
static bool can_read_peer(void)
{
    static uint64_t word = 0x1234567;
    uint64_t found = 0;
    struct iovec to = {&found, sizeof found}, from = {&word, sizeof word};
    pid_t other = getppid();
    return process_vm_readv(other, &to, 1, &from, 1, 0) == (ssize_t)sizeof found && found == word;
}

static void try(const struct scenario *scenario)
{
    bool first = !start_peer(&peer);
    void (*prepare)(void) = first ? scenario->first : scenario->second;
    bool permitted = prepare == permit, readable = permitted && !first && can_read_peer();
    prepare();
    want_counters();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_RMA | FI_ATOMIC});
    introduce(&peer, &node);
    messages(first);
    one_sided(first);
    meet(&peer, &node);
    const char *counters = close_and_count(&node);
    uint64_t copied = counter_in(counters, "local_copied_bytes"), pulled = counter_in(counters, "local_pulled_bytes");
    CHECK(counter_in(counters, "links") == 1, "%s: %s", scenario->name, counters);
    CHECK(copied > 0, "%s: nothing was copied through memory", scenario->name);
    CHECK(permitted || pulled == 0, "%s: %" PRIu64 " bytes were pulled", scenario->name, pulled);
    CHECK(!readable || pulled > REGION, "%s: only %" PRIu64 " bytes were pulled", scenario->name, pulled);
    if (!first)
        printf("%s: %" PRIu64 " KiB copied, %" PRIu64 " KiB pulled\n", scenario->name, copied >> 10, pulled >> 10);
    exit(finish_peer(&peer));
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    for (unsigned i = 0; i < SCENARIOS; i++) {
        fflush(NULL);
        pid_t pid = fork_member();
        if (pid == 0)
            try(&scenarios[i]);
        passed(pid, scenarios[i].name);
    }
    return 0;
}
