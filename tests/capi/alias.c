/*
 * An alias is the same endpoint with other flags for operations: same name, same queues, same receives.
 * It is closed before the endpoint is.
 */
#include "harness.h"

static struct node node;
static fi_addr_t self;

static struct fid_ep *alias_with(uint64_t flags)
{
    struct fid_ep *alias = NULL;
    OK(fi_ep_alias(node.ep, &alias, flags));
    CHECK(alias != NULL && alias != node.ep && alias->fid.fclass == FI_CLASS_EP, "no alias");
    return alias;
}

/* Sends on one, receives on the other; returns whether the send was reported. */
static bool reports(struct fid_ep *from, struct fid_ep *to, uint64_t word)
{
    uint64_t in = 0;
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    bool sent = false;
    RETRY(&node, fi_trecv(to, &in, sizeof in, NULL, FI_ADDR_UNSPEC, word, 0, &receive_context));
    RETRY(&node, fi_tsend(from, &word, sizeof word, NULL, self, word, &send_context));
    for (;;) {
        completion(&node, &entry);
        if (entry.op_context == &receive_context)
            break;
        sent = true;
    }
    CHECK(in == word, "received %" PRIu64 ", sent %" PRIu64, in, word);
    if (!sent && completion_within(&node, &entry, 0.05))
        sent = true;
    CHECK(!sent || entry.op_context == &send_context || entry.op_context == &receive_context, "another operation");
    return sent;
}

static uint64_t flags_of(struct fid_ep *ep, uint64_t way)
{
    uint64_t flags = way;
    OK(fi_control(&ep->fid, FI_GETOPSFLAG, &flags));
    return flags;
}

int main(void)
{
    uint8_t name[NAME_BYTES];
    size_t length = sizeof name, limit = 0;
    begin("");
    if (!provider_is_ours())
        skip("few providers have aliases");
    /* Only operations with FI_COMPLETION are reported. */
    open_node(&node, &(struct wish){.cq_bind_flags = FI_SELECTIVE_COMPLETION, .caps = FI_MSG | FI_TAGGED | FI_MULTI_RECV});
    self = insert(&node, node.name);
    uint64_t receives = FI_RECV | FI_COMPLETION;
    OK(fi_control(&node.ep->fid, FI_SETOPSFLAG, &receives));

    struct fid_ep *loud = alias_with(FI_TRANSMIT | FI_COMPLETION);
    struct fid_ep *deaf = alias_with(FI_RECV);
    CHECK(!reports(node.ep, node.ep, 1), "the endpoint reports its sends");
    CHECK(reports(loud, node.ep, 2), "the alias does not report its sends");
    CHECK(!reports(deaf, loud, 3), "the other alias reports its sends");
    CHECK(flags_of(node.ep, FI_TRANSMIT) == 0 && flags_of(loud, FI_TRANSMIT) == FI_COMPLETION, "flags of sends");
    CHECK(flags_of(loud, FI_RECV) == FI_COMPLETION && flags_of(deaf, FI_RECV) == 0, "flags of receives");
    uint64_t none = FI_TRANSMIT;
    OK(fi_control(&loud->fid, FI_SETOPSFLAG, &none));
    CHECK(!reports(loud, node.ep, 4), "the alias reports its sends after it was told not to");
    CHECK(flags_of(node.ep, FI_RECV) == FI_COMPLETION, "flags of the endpoint");

    OK(fi_getname(&loud->fid, name, &length));
    CHECK(length == node.name_length && memcmp(name, node.name, length) == 0, "the alias has another name");
    limit = 4096;
    OK(fi_setopt(&loud->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &limit, sizeof limit));
    limit = 0;
    length = sizeof limit;
    OK(fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &limit, &length));
    CHECK(limit == 4096, "the endpoint has another option than its alias: %zu", limit);

    struct fid_ep *wrong = NULL;
    RETURNS(-FI_EINVAL, fi_ep_alias(node.ep, &wrong, FI_COMPLETION));
    RETURNS(-FI_EINVAL, fi_ep_alias(node.ep, &wrong, FI_TRANSMIT | FI_RECV));
    RETURNS(-FI_EBADFLAGS, fi_ep_alias(node.ep, &wrong, FI_TRANSMIT | FI_PEEK));
    CHECK(wrong == NULL, "a refused alias was written");
    RETURNS(-FI_EOPBADSTATE, fi_ep_bind(loud, &node.cq->fid, FI_TRANSMIT));

    /* Aliases of an alias are the endpoint's. */
    struct fid_ep *again;
    OK(fi_control(&deaf->fid, FI_ALIAS, &(struct fi_alias){.fid = (struct fid **)&again, .flags = FI_TRANSMIT | FI_COMPLETION}));
    CHECK(reports(again, node.ep, 5), "the alias of an alias does not report its sends");
    CHECK(flags_of(again, FI_RECV) == 0, "the alias of an alias has not its flags");

    RETURNS(-FI_EBUSY, fi_close(&node.ep->fid));
    OK(fi_close(&deaf->fid));
    OK(fi_close(&loud->fid));
    RETURNS(-FI_EBUSY, fi_close(&node.ep->fid));
    CHECK(reports(again, node.ep, 6), "the last alias does not work any more");
    OK(fi_close(&again->fid));
    CHECK(!reports(node.ep, node.ep, 7), "the endpoint does not work any more");

    /* One that is made before the endpoint is enabled works when that is. */
    OK(fi_close(&node.ep->fid));
    OK(fi_endpoint(node.domain, node.info, &node.ep, NULL));
    OK(fi_ep_bind(node.ep, &node.av->fid, 0));
    struct fid_ep *early = alias_with(FI_TRANSMIT | FI_COMPLETION);
    uint64_t word = 0;
    RETURNS(-FI_EOPBADSTATE, fi_tsend(early, &word, sizeof word, NULL, self, 1, NULL));
    OK(fi_ep_bind(node.ep, &node.cq->fid, FI_TRANSMIT | FI_RECV));
    OK(fi_enable(early));
    length = sizeof node.name;
    OK(fi_getname(&node.ep->fid, node.name, &length));
    self = insert(&node, node.name);
    CHECK(reports(early, node.ep, 8), "an early alias does not report its sends");
    OK(fi_close(&early->fid));
    close_node(&node);
    return 0;
}
