/*
 * libfabric's inline functions jump through an object's tables without looking: no entry of any table of any
 * object may be NULL, and every table says its size.
 */
#include "harness.h"
#include <rdma/fi_atomic.h>
#include <rdma/fi_collective.h>

/* `known`: the size of this table in libfabric 1.17; a table of a later version may be longer. */
static void check_table(const char *name, const void *table, size_t known)
{
    CHECK(table != NULL, "%s: no table", name);
    size_t size = *(const size_t *)table;
    CHECK(size >= known, "%s: size %zu, 1.17 has %zu", name, size, known);
    CHECK(size % sizeof(void *) == 0 && size < 1024, "%s: size %zu", name, size);
    void *const *slots = table;
    for (size_t slot = 1; slot < size / sizeof(void *); slot++)
        if (slots[slot] == NULL)
            FAIL("%s: entry %zu of %zu is NULL", name, slot - 1, size / sizeof(void *) - 1);
}
#define TABLE(pointer) check_table(#pointer, pointer, sizeof *(pointer))

int main(void)
{
    struct node node;
    struct fid_eq *eq;
    struct fid_mr *mr;
    static char memory[4096];
    begin("");
    if (!provider_is_ours())
        skip("%s is not bound by this rule", provider_name());
    open_node(&node, &(struct wish){.counters = true, .wait = FI_WAIT_FD});
    struct fi_eq_attr eq_attr = {.wait_obj = FI_WAIT_UNSPEC};
    OK(fi_eq_open(node.fabric, &eq_attr, &eq, NULL));
    OK(fi_mr_reg(node.domain, memory, sizeof memory, FI_SEND | FI_RECV, 0, 0, 0, &mr, NULL));

    TABLE(node.fabric->fid.ops);
    TABLE(node.fabric->ops);
    TABLE(node.domain->fid.ops);
    TABLE(node.domain->ops);
    TABLE(node.domain->mr);
    TABLE(node.av->fid.ops);
    TABLE(node.av->ops);
    TABLE(node.cq->fid.ops);
    TABLE(node.cq->ops);
    TABLE(node.tx_counter->fid.ops);
    TABLE(node.tx_counter->ops);
    TABLE(eq->fid.ops);
    TABLE(eq->ops);
    TABLE(mr->fid.ops);
    TABLE(node.ep->fid.ops);
    TABLE(node.ep->ops);
    TABLE(node.ep->cm);
    TABLE(node.ep->msg);
    TABLE(node.ep->rma);
    TABLE(node.ep->tagged);
    TABLE(node.ep->atomic);
    TABLE(node.ep->collective);

    CHECK(node.fabric->fid.fclass == FI_CLASS_FABRIC, "class %zu", node.fabric->fid.fclass);
    CHECK(node.domain->fid.fclass == FI_CLASS_DOMAIN, "class %zu", node.domain->fid.fclass);
    CHECK(node.av->fid.fclass == FI_CLASS_AV, "class %zu", node.av->fid.fclass);
    CHECK(node.cq->fid.fclass == FI_CLASS_CQ, "class %zu", node.cq->fid.fclass);
    CHECK(node.tx_counter->fid.fclass == FI_CLASS_CNTR, "class %zu", node.tx_counter->fid.fclass);
    CHECK(eq->fid.fclass == FI_CLASS_EQ, "class %zu", eq->fid.fclass);
    CHECK(mr->fid.fclass == FI_CLASS_MR, "class %zu", mr->fid.fclass);
    CHECK(node.ep->fid.fclass == FI_CLASS_EP, "class %zu", node.ep->fid.fclass);
    CHECK(FI_VERSION_GE(node.fabric->api_version, FI_VERSION(1, 17)), "api 0x%x", node.fabric->api_version);

    OK(fi_close(&mr->fid));
    OK(fi_close(&eq->fid));
    close_node(&node);
    return 0;
}
