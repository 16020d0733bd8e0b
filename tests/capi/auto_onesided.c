/*
 * FI_PROGRESS_AUTO and one-sided operations: writes, reads and atomics complete while the application of their
 * target computes or sleeps, and make no call.
 */
#include <rdma/fi_atomic.h>

#include "harness.h"

enum { REGION = 4 << 20, ADDS = 200, ROUNDS = 5 };

static struct node node;
static struct peer peer;
static struct fi_context2 context;

struct remote {
    uint64_t base, key;
};

static void done(void)
{
    struct fi_cq_tagged_entry entry;
    completion_of(&node, &context, &entry);
}

static void initiator(void)
{
    static uint8_t local[REGION];
    struct remote memory, count;
    const uint64_t one = 1;
    char token;
    hear(&peer, &memory, sizeof memory);
    hear(&peer, &count, sizeof count);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        hear(&peer, &token, 1); /* from here on the target makes no call */
        for (size_t length = 1; length <= REGION; length *= 16) {
            struct iovec iov = {local, length};
            struct fi_rma_iov place = {memory.base, length, memory.key};
            struct fi_msg_rma msg = {.msg_iov = &iov, .iov_count = 1, .addr = peer.address, .rma_iov = &place,
                                     .rma_iov_count = 1, .context = &context};
            pattern_fill(local, length, round + length);
            RETRY(&node, fi_writemsg(node.ep, &msg, FI_DELIVERY_COMPLETE | FI_COMPLETION));
            done();
            memset(local, 0, length);
            RETRY(&node, fi_read(node.ep, local, length, NULL, peer.address, memory.base, memory.key, &context));
            done();
            pattern_check(local, length, round + length, "read back");
        }
        for (uint64_t i = 0; i < ADDS; i++) {
            uint64_t old;
            RETRY(&node, fi_fetch_atomic(node.ep, &one, 1, NULL, &old, NULL, peer.address, count.base, count.key,
                                         FI_UINT64, FI_SUM, &context));
            done();
            CHECK(old == round * ADDS + i, "%" PRIu64 " before addition %" PRIu64, old, round * ADDS + i);
        }
        tell(&peer, &token, 1);
    }
}

static void target(void)
{
    static uint8_t memory[REGION];
    static volatile uint64_t count;
    struct remote remote;
    struct fid_mr *regions[2];
    struct pollfd answer = {.fd = peer.fd, .events = POLLIN};
    void *places[] = {memory, (void *)(uintptr_t)&count};
    size_t sizes[] = {sizeof memory, sizeof count};
    bool virtual_addresses = (node.info->domain_attr->mr_mode & (FI_MR_VIRT_ADDR | FI_MR_BASIC)) != 0;
    char token = 'g';
    for (int i = 0; i < 2; i++) {
        OK(fi_mr_reg(node.domain, places[i], sizes[i], FI_REMOTE_READ | FI_REMOTE_WRITE, 0, 1 + (uint64_t)i, 0,
                     &regions[i], NULL));
        remote.key = fi_mr_key(regions[i]);
        remote.base = virtual_addresses ? (uintptr_t)places[i] : 0;
        tell(&peer, &remote, sizeof remote);
    }
    for (uint64_t round = 0; round < ROUNDS; round++) {
        tell(&peer, &token, 1);
        if (round % 2 == 0)
            while (poll(&answer, 1, 0) == 0) /* computes */
                ;
        hear(&peer, &token, 1); /* or sleeps */
        CHECK(count == (round + 1) * ADDS, "%" PRIu64 " additions after round %" PRIu64, count, round);
    }
    pattern_check(memory, 1 << 20, ROUNDS - 1 + (1 << 20), "written");
    for (int i = 0; i < 2; i++)
        OK(fi_close(&regions[i]->fid));
}

int main(void)
{
    bool child = start_peer(&peer);
    struct wish wish = {.caps = FI_MSG | FI_RMA | FI_ATOMIC, .optional = true};
    wish.data_progress = child ? FI_PROGRESS_AUTO : FI_PROGRESS_MANUAL;
    open_node(&node, &wish);
    introduce(&peer, &node);
    if (child)
        target();
    else
        initiator();
    meet(&peer, &node);
    close_node(&node);
    return finish_peer(&peer);
}
