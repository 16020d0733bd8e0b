/*
 * One-sided operations between two processes: writes and reads of many sizes, remote CQ data after the last
 * byte, atomics of both processes on one counter, refusals as error entries, and the counters of a region.
 */
#include <rdma/fi_atomic.h>

#include "harness.h"

enum { REGION = 1 << 20, ADDS = 2000, DATA = 41 };

static struct node node;
static struct peer peer;
static struct fi_context2 context;

/* What the other process must know of a region. */
struct remote {
    uint64_t base, key;
};

static const size_t sizes[] = {0, 1, 8, 1000, 1500, 9000, 16384, 16385, 65536, REGION};
enum { SIZES = sizeof sizes / sizeof *sizes };

static struct fid_mr *region_of(void *memory, size_t length, uint64_t access, uint64_t key, struct remote *remote)
{
    struct fid_mr *region;
    OK(fi_mr_reg(node.domain, memory, length, access, 0, key, 0, &region, NULL));
    remote->key = fi_mr_key(region);
    remote->base = node.info->domain_attr->mr_mode & (FI_MR_VIRT_ADDR | FI_MR_BASIC) ? (uintptr_t)memory : 0;
    return region;
}

static void expect(uint64_t flags)
{
    struct fi_cq_tagged_entry entry;
    completion_of(&node, &context, &entry);
    CHECK(entry.flags == flags, "flags 0x%" PRIx64, entry.flags);
}

static void refused(int number)
{
    struct fi_cq_err_entry error;
    error_completion(&node, &error);
    CHECK(error.err == number, "%s instead of %s", fi_strerror(error.err), fi_strerror(number));
    CHECK(error.op_context == &context, "an error of another operation");
}

static void write_and_read(const struct remote *remote, uint8_t *local)
{
    for (int i = 0; i < SIZES; i++) {
        struct iovec iov = {local, sizes[i]};
        struct fi_rma_iov place = {remote->base, sizes[i], remote->key};
        struct fi_msg_rma msg = {.msg_iov = &iov, .iov_count = 1, .addr = peer.address, .rma_iov = &place,
                                 .rma_iov_count = 1, .context = &context};
        pattern_fill(local, sizes[i], (uint64_t)i);
        RETRY(&node, fi_writemsg(node.ep, &msg, FI_DELIVERY_COMPLETE | FI_COMPLETION));
        expect(FI_RMA | FI_WRITE);
        /* The target looks while nothing is under way. */
        meet(&peer, &node);
        meet(&peer, &node);
        memset(local, 0, REGION);
        RETRY(&node, fi_read(node.ep, local, sizes[i], NULL, peer.address, remote->base, remote->key, &context));
        expect(FI_RMA | FI_READ);
        pattern_check(local, sizes[i], (uint64_t)i, "read back");
    }
    for (int i = 0; i < SIZES; i++) {
        pattern_fill(local, sizes[i], 100 + (uint64_t)i);
        RETRY(&node, fi_writedata(node.ep, local, sizes[i], NULL, DATA + (uint64_t)i, peer.address, remote->base,
                                  remote->key, &context));
        expect(FI_RMA | FI_WRITE);
        meet(&peer, &node);
    }
}

static void watch(uint8_t *memory)
{
    for (int i = 0; i < SIZES; i++) {
        meet(&peer, &node);
        pattern_check(memory, sizes[i], (uint64_t)i, "written");
        meet(&peer, &node);
    }
    for (int i = 0; i < SIZES; i++) {
        struct fi_cq_tagged_entry entry;
        completion(&node, &entry);
        /* tcp leaves FI_RMA out. */
        CHECK((entry.flags | FI_RMA) == (FI_RMA | FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA), "flags 0x%" PRIx64, entry.flags);
        CHECK(entry.data == DATA + (uint64_t)i, "data %" PRIu64, entry.data);
        CHECK(entry.op_context == NULL, "a context that no operation had");
        pattern_check(memory, sizes[i], 100 + (uint64_t)i, "written when the data came");
        meet(&peer, &node);
    }
}

/* Both processes add to one counter of the second: over the network, and to itself. */
static void add(fi_addr_t target, const struct remote *remote)
{
    const uint64_t one = 1;
    uint64_t last = 0, old;
    for (int i = 0; i < ADDS; i++) {
        RETRY(&node, fi_fetch_atomic(node.ep, &one, 1, NULL, &old, NULL, target, remote->base, remote->key, FI_UINT64,
                                     FI_SUM, &context));
        expect(FI_ATOMIC | FI_READ);
        CHECK(i == 0 || old > last, "%" PRIu64 " after %" PRIu64, old, last);
        last = old;
    }
}

static void refusals(const struct remote *read_only, uint8_t *local)
{
    const uint64_t one = 1;
    uint64_t old;
    RETRY(&node, fi_write(node.ep, local, 8, NULL, peer.address, read_only->base, read_only->key, &context));
    refused(FI_EACCES);
    RETRY(&node, fi_write(node.ep, local, 8, NULL, peer.address, read_only->base, read_only->key + 1, &context));
    refused(FI_ENOKEY);
    RETRY(&node, fi_read(node.ep, local, 9, NULL, peer.address, read_only->base + 8, read_only->key, &context));
    refused(FI_EACCES);
    RETRY(&node, fi_fetch_atomic(node.ep, &one, 1, NULL, &old, NULL, peer.address, read_only->base, read_only->key,
                                 FI_UINT64, FI_SUM, &context));
    refused(FI_EACCES);
    RETRY(&node, fi_read(node.ep, local, 8, NULL, peer.address, read_only->base + 8, read_only->key, &context));
    expect(FI_RMA | FI_READ);
}

static void first(void)
{
    static uint8_t local[REGION];
    struct remote remote, counter, read_only;
    hear(&peer, &remote, sizeof remote);
    hear(&peer, &counter, sizeof counter);
    hear(&peer, &read_only, sizeof read_only);
    write_and_read(&remote, local);
    add(peer.address, &counter);
    meet(&peer, &node);
    if (provider_is_ours())
        refusals(&read_only, local);
    meet(&peer, &node);
}

static void second(void)
{
    static uint8_t memory[REGION];
    static uint64_t count, constant[2];
    struct remote remote;
    struct fid_mr *regions[3];
    struct fid_cntr *writes = NULL;
    regions[0] = region_of(memory, sizeof memory, FI_REMOTE_READ | FI_REMOTE_WRITE, 1, &remote);
    if (provider_is_ours()) {
        OK(fi_cntr_open(node.domain, &(struct fi_cntr_attr){0}, &writes, NULL));
        OK(fi_mr_bind(regions[0], &writes->fid, FI_REMOTE_WRITE));
    }
    tell(&peer, &remote, sizeof remote);
    struct remote counter;
    regions[1] = region_of(&count, sizeof count, FI_REMOTE_READ | FI_REMOTE_WRITE, UINT64_MAX - 1, &counter);
    tell(&peer, &counter, sizeof counter);
    regions[2] = region_of(constant, sizeof constant, FI_REMOTE_READ, 7, &remote);
    tell(&peer, &remote, sizeof remote);
    watch(memory);
    if (writes != NULL)
        CHECK(fi_cntr_read(writes) == 2 * SIZES, "%" PRIu64 " writes counted", fi_cntr_read(writes));
    add(insert(&node, node.name), &counter);
    meet(&peer, &node);
    CHECK(count == 2 * ADDS, "%" PRIu64 " of %d additions", count, 2 * ADDS);
    meet(&peer, &node);
    CHECK(constant[0] == 0 && constant[1] == 0, "a refused operation changed memory");
    if (writes != NULL)
        RETURNS(-FI_EBUSY, fi_close(&writes->fid));
    for (int i = 0; i < 3; i++)
        OK(fi_close(&regions[i]->fid));
    if (writes != NULL)
        OK(fi_close(&writes->fid));
}

int main(void)
{
    bool child = start_peer(&peer);
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_RMA | FI_ATOMIC});
    introduce(&peer, &node);
    if (child)
        second();
    else
        first();
    close_node(&node);
    return finish_peer(&peer);
}
