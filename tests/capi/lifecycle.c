/*
 * Objects in the wrong order: closing what others still use is -FI_EBUSY and changes nothing; enabling an
 * endpoint that lacks something, or binding nonsense, is refused; afterwards everything closes.
 */
#include "harness.h"

static void busy(struct fid *fid, const char *what)
{
    int result = fi_close(fid);
    if (result != -FI_EBUSY)
        FAIL("closing %s in use returned %d (%s), expected -FI_EBUSY", what, result, fi_strerror(-result));
}

/* The manual leaves open which of these it is. */
static void refused(int result, const char *how)
{
    if (result != -FI_ENOAV && result != -FI_ENOCQ && result != -FI_EOPBADSTATE)
        FAIL("enabling %s returned %d (%s)", how, result, fi_strerror(-result));
}

int main(void)
{
    struct node node;
    struct fid_ep *ep;
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    begin("");
    open_domain(&node, &(struct wish){.counters = true});

    OK(fi_endpoint(node.domain, node.info, &ep, NULL));
    refused(fi_enable(ep), "without anything");
    if (provider_is_ours()) {
        RETURNS(-FI_EBADFLAGS, fi_ep_bind(ep, &node.cq->fid, FI_TRANSMIT | FI_RECV | FI_REMOTE_READ));
        RETURNS(-FI_EBADFLAGS, fi_ep_bind(ep, &node.tx_counter->fid, FI_SEND | FI_MULTI_RECV));
        RETURNS(-FI_EINVAL, fi_ep_bind(ep, &node.fabric->fid, 0));
    }
    OK(fi_ep_bind(ep, &node.cq->fid, FI_TRANSMIT | FI_RECV));
    refused(fi_enable(ep), "without an address vector");
    OK(fi_ep_bind(ep, &node.av->fid, 0));
    if (provider_is_ours()) {
        RETURNS(-FI_EINVAL, fi_ep_bind(ep, &node.cq->fid, FI_RECV));
        /* Not enabled yet. */
        RETURNS(-FI_EOPBADSTATE, fi_recv(ep, &entry, sizeof entry, NULL, FI_ADDR_UNSPEC, &context));
    }
    OK(fi_ep_bind(ep, &node.tx_counter->fid, FI_SEND));
    OK(fi_ep_bind(ep, &node.rx_counter->fid, FI_RECV));
    OK(fi_enable(ep));
    node.ep = ep;

    busy(&node.cq->fid, "a completion queue");
    busy(&node.av->fid, "an address vector");
    busy(&node.tx_counter->fid, "a counter");
    busy(&node.domain->fid, "a domain");
    busy(&node.fabric->fid, "a fabric");

    /* Nothing was broken by that: a message to ourselves. */
    char out[16] = "still here", in[16] = {0};
    node.name_length = sizeof node.name;
    OK(fi_getname(&node.ep->fid, node.name, &node.name_length));
    fi_addr_t self = insert(&node, node.name);
    RETRY(&node, fi_recv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, &context));
    RETRY(&node, fi_send(node.ep, out, sizeof out, NULL, self, NULL));
    completion(&node, &entry);
    completion(&node, &entry);
    CHECK(memcmp(in, out, sizeof in) == 0, "received '%s'", in);

    /* A receive that nothing matches does not keep the endpoint from closing. */
    RETRY(&node, fi_recv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, &context));
    close_node(&node);
    /* And a second round in the same process works like the first. */
    open_node(&node, &(struct wish){0});
    close_node(&node);
    return 0;
}
