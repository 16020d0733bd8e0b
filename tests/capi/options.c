/*
 * Endpoint options and control commands: the known ones are kept, unknown ones are refused by the error that
 * libfabric's users expect.
 */
#include "harness.h"

/* Older headers do not name them. */
enum { MAX_MSG_SIZE = 12, INJECT_MSG_SIZE = 16, KINDS = 4, SHARED_MEMORY_PERMITTED = 11, OFFERED_NOWHERE = 9999 };

/* Largest and largest injected messages of each kind: what the attributes promise at first, lowered at will, never raised. */
static void sizes(struct node *node)
{
    for (int option = MAX_MSG_SIZE; option < INJECT_MSG_SIZE + KINDS; option++) {
        size_t value = 0, most, length = sizeof value;
        OK(fi_getopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &value, &length));
        CHECK(value > 0 && length == sizeof value, "option %d is %zu", option, value);
        most = value;
        value = most / 2;
        OK(fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &value, sizeof value));
        value = 0;
        OK(fi_getopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &value, &length));
        CHECK(value == most / 2, "option %d is %zu", option, value);
        value = SIZE_MAX;
        RETURNS(-FI_EINVAL, fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &value, sizeof value));
        RETURNS(-FI_EINVAL, fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &most, sizeof most - 1));
        RETURNS(-FI_EINVAL, fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &most, 0));
        length = 0;
        RETURNS(-FI_ETOOSMALL, fi_getopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &value, &length));
        CHECK(length == sizeof value, "option %d needs %zu bytes", option, length);
        OK(fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, option, &most, sizeof most));
    }
    /* A lowered limit holds. */
    size_t four = 4;
    uint64_t word = 1;
    struct fi_context2 context;
    fi_addr_t self = insert(node, node->name);
    OK(fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, INJECT_MSG_SIZE, &four, sizeof four));
    RETURNS(-FI_EMSGSIZE, fi_inject(node->ep, &word, sizeof word, self));
    OK(fi_inject(node->ep, &word, four, self));
    OK(fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, MAX_MSG_SIZE, &four, sizeof four));
    RETURNS(-FI_EMSGSIZE, fi_send(node->ep, &word, sizeof word, NULL, self, &context));
    /* Peers may have been met through memory already: it can be forbidden up to enable only. */
    bool shared_memory = true;
    OK(fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, SHARED_MEMORY_PERMITTED, &shared_memory, sizeof shared_memory));
    shared_memory = false;
    RETURNS(-FI_EOPBADSTATE, fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, SHARED_MEMORY_PERMITTED, &shared_memory, sizeof shared_memory));
    RETURNS(-FI_EINVAL, fi_setopt(&node->ep->fid, FI_OPT_ENDPOINT, SHARED_MEMORY_PERMITTED, &four, sizeof four));
}

static void op_flags(struct node *node)
{
    uint64_t flags = FI_TRANSMIT | FI_DELIVERY_COMPLETE;
    OK(fi_control(&node->ep->fid, FI_SETOPSFLAG, &flags));
    flags = FI_TRANSMIT;
    OK(fi_control(&node->ep->fid, FI_GETOPSFLAG, &flags));
    CHECK(flags == FI_DELIVERY_COMPLETE, "flags 0x%" PRIx64, flags);
    uint64_t wrong[] = {0, FI_DELIVERY_COMPLETE, FI_TRANSMIT | FI_RECV};
    for (unsigned i = 0; i < 3; i++) {
        flags = wrong[i];
        RETURNS(-FI_EINVAL, fi_control(&node->ep->fid, FI_SETOPSFLAG, &flags));
        RETURNS(-FI_EINVAL, fi_control(&node->ep->fid, FI_GETOPSFLAG, &flags));
    }
    flags = FI_RECV | FI_INJECT;
    RETURNS(-FI_EBADFLAGS, fi_control(&node->ep->fid, FI_SETOPSFLAG, &flags));
    RETURNS(-FI_EINVAL, fi_control(&node->ep->fid, FI_SETOPSFLAG, NULL));
}

int main(void)
{
    struct node node;
    size_t value = 0, length = sizeof value;
    begin("");
    if (!provider_is_ours())
        skip("what is refused, and how, differs elsewhere");
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_MULTI_RECV});
    OK(fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &value, &length));
    CHECK(length == sizeof value, "length %zu", length);
    value = 16384;
    OK(fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &value, sizeof value));
    value = 0;
    OK(fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &value, &length));
    CHECK(value == 16384, "FI_OPT_MIN_MULTI_RECV is %zu", value);
    length = 2;
    RETURNS(-FI_ETOOSMALL, fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &value, &length));
    CHECK(length == sizeof value, "the length needed is %zu", length);
    RETURNS(-FI_EINVAL, fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, FI_OPT_MIN_MULTI_RECV, &value, 2));
    RETURNS(-FI_ENOPROTOOPT, fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, OFFERED_NOWHERE, &value, sizeof value));
    RETURNS(-FI_ENOPROTOOPT, fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, OFFERED_NOWHERE, &value, &length));
    RETURNS(-FI_ENOPROTOOPT, fi_getopt(&node.ep->fid, OFFERED_NOWHERE, FI_OPT_MIN_MULTI_RECV, &value, &length));
    sizes(&node);
    op_flags(&node);
    RETURNS(-FI_ENOSYS, fi_control(&node.ep->fid, 9999, &value));
    RETURNS(-FI_ENOSYS, fi_control(&node.domain->fid, 9999, &value));

    /* The two steps of asking for a name. */
    uint8_t name[NAME_BYTES];
    length = 0;
    RETURNS(-FI_ETOOSMALL, fi_getname(&node.ep->fid, NULL, &length));
    CHECK(length == node.name_length, "the name needs %zu bytes, it has %zu", length, node.name_length);
    OK(fi_getname(&node.ep->fid, name, &length));
    CHECK(memcmp(name, node.name, length) == 0, "another name");
    close_node(&node);
    return 0;
}
