/*
 * Endpoint options and control commands: the known ones are kept, unknown ones are refused by the error that
 * libfabric's users expect.
 */
#include "harness.h"

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
    RETURNS(-FI_ENOPROTOOPT, fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, 9999, &value, sizeof value));
    RETURNS(-FI_ENOPROTOOPT, fi_getopt(&node.ep->fid, FI_OPT_ENDPOINT, 9999, &value, &length));
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
