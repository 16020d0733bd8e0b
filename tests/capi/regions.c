/*
 * Memory registration: keys are the caller's where they are asked for, a key taken twice is refused, the whole
 * address space can be registered, and local registrations need no key.
 */
#include "harness.h"

int main(void)
{
    struct node node;
    struct fid_mr *first, *second, *all;
    static char memory[8192];
    const uint64_t key = 0x8000000000000007; /* MPICH sets the top bit */
    const uint64_t remote = FI_REMOTE_READ | FI_REMOTE_WRITE;
    begin("");
    if (!provider_is_ours())
        skip("keys are chosen differently elsewhere");
    open_domain(&node, &(struct wish){0});
    CHECK(node.info->domain_attr->mr_mode == 0, "mr_mode 0x%x", node.info->domain_attr->mr_mode);
    CHECK(node.info->domain_attr->mr_key_size == 8, "mr_key_size %zu", node.info->domain_attr->mr_key_size);

    OK(fi_mr_reg(node.domain, memory, sizeof memory, remote, 0, key, 0, &first, &node));
    CHECK(fi_mr_key(first) == key, "key 0x%" PRIx64, fi_mr_key(first));
    CHECK(first->fid.context == &node, "another context");
    RETURNS(-FI_ENOKEY, fi_mr_reg(node.domain, memory, 10, remote, 0, key, 0, &second, NULL));
    OK(fi_close(&first->fid));
    OK(fi_mr_reg(node.domain, memory, 10, remote, 0, key, 0, &second, NULL));
    OK(fi_close(&second->fid));

    struct iovec iov[2] = {{memory, 100}, {memory + 4096, 100}};
    struct fi_mr_attr attr = {.mr_iov = iov, .iov_count = 1, .access = remote, .requested_key = 9};
    OK(fi_mr_regattr(node.domain, &attr, 0, &first));
    CHECK(fi_mr_key(first) == 9, "key 0x%" PRIx64, fi_mr_key(first));
    OK(fi_mr_regv(node.domain, iov, 1, FI_SEND | FI_RECV, 0, 9, 0, &second, NULL));
    OK(fi_mr_reg(node.domain, NULL, UINTPTR_MAX, remote, 0, 10, 0, &all, NULL));
    int busy = fi_close(&node.domain->fid);
    CHECK(busy == -FI_EBUSY, "closing a domain with regions returned %d", busy);
    OK(fi_close(&all->fid));
    OK(fi_close(&second->fid));
    OK(fi_close(&first->fid));
    close_node(&node);
    return 0;
}
