/*
 * Address vectors: tables count from 0 in order of insertion, lookups give back what was put in, bad
 * addresses and bad flags are refused, services and ranges can be inserted, a shared vector by name cannot.
 */
#include "harness.h"

enum { MANY = 300 };

static struct node node;

static struct sockaddr_in address_of(unsigned number)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)(10000 + number)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static bool same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_family == b->sin_family && a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

static void looks_up(fi_addr_t fi_addr, const struct sockaddr_in *expected)
{
    struct sockaddr_in found;
    size_t length = sizeof found;
    OK(fi_av_lookup(node.av, fi_addr, &found, &length));
    CHECK(length == sizeof found, "length %zu", length);
    CHECK(same(&found, expected), "another address, port %u", ntohs(found.sin_port));
}

static void tables(void)
{
    static struct sockaddr_in names[MANY];
    static fi_addr_t addresses[MANY];
    for (unsigned i = 0; i < MANY; i++)
        names[i] = address_of(i);
    RETURNS(MANY, fi_av_insert(node.av, names, MANY, addresses, 0, NULL));
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(addresses[i] == i, "entry %u has index %" PRIu64, i, addresses[i]);
        looks_up(addresses[i], &names[i]);
    }
    struct sockaddr_in one = address_of(MANY);
    RETURNS(1, fi_av_insert(node.av, &one, 1, NULL, 0, NULL));
    looks_up(MANY, &one);
    if (!provider_is_ours())
        return;
    /* The same again is the same entry; it lasts until it is removed as often. */
    fi_addr_t again = FI_ADDR_NOTAVAIL, five = 5;
    RETURNS(1, fi_av_insert(node.av, &names[5], 1, &again, 0, NULL));
    CHECK(again == 5, "a second insertion got index %" PRIu64, again);
    OK(fi_av_remove(node.av, &five, 1, 0));
    looks_up(5, &names[5]);
    OK(fi_av_remove(node.av, &five, 1, 0));
    RETURNS(-FI_EINVAL, fi_av_remove(node.av, &five, 1, 0));
    struct sockaddr_in scratch;
    size_t length = sizeof scratch;
    RETURNS(-FI_EINVAL, fi_av_lookup(node.av, 5, &scratch, &length));
    RETURNS(-FI_EINVAL, fi_av_lookup(node.av, 1000000, &scratch, &length));
}

static void refusals(void)
{
    struct sockaddr_in mixed[3] = {address_of(5000), {.sin_family = 99}, address_of(5001)};
    fi_addr_t addresses[3] = {0, 0, 0};
    int errors[3] = {-1, -1, -1};
    RETURNS(2, fi_av_insert(node.av, mixed, 3, addresses, FI_SYNC_ERR, errors));
    CHECK(errors[0] == 0 && errors[1] != 0 && errors[2] == 0, "errors %d %d %d", errors[0], errors[1], errors[2]);
    CHECK(addresses[1] == FI_ADDR_NOTAVAIL, "a bad address got index %" PRIu64, addresses[1]);
    looks_up(addresses[2], &mixed[2]);
    RETURNS(-FI_EBADFLAGS, fi_av_insert(node.av, mixed, 1, addresses, FI_READ, NULL));
    struct sockaddr_in scratch;
    size_t length = 4;
    OK(fi_av_lookup(node.av, addresses[0], &scratch, &length));
    CHECK(length == sizeof scratch, "a short lookup says the full length is %zu", length);
    RETURNS(-FI_EINVAL, fi_av_remove(node.av, addresses, 1, FI_READ));
}

static void services(void)
{
    fi_addr_t address = FI_ADDR_NOTAVAIL;
    struct sockaddr_in expected = address_of(2345);
    RETURNS(1, fi_av_insertsvc(node.av, "127.0.0.1", "12345", &address, 0, NULL));
    looks_up(address, &expected);
    fi_addr_t range[4];
    RETURNS(4, fi_av_insertsym(node.av, "127.0.0.1", 2, "20000", 2, range, 0, NULL));
    for (unsigned i = 0; i < 4; i++) {
        struct sockaddr_in one = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(20000 + i % 2)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / 2)};
        looks_up(range[i], &one);
    }
    char text[128];
    size_t length = sizeof text;
    const char *result = fi_av_straddr(node.av, &expected, text, &length);
    CHECK(result != NULL && strstr(result, "12345") != NULL && strstr(result, "127.0.0.1") != NULL,
          "an address in words: %s", result);
}

int main(void)
{
    begin("");
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN, .av_type = FI_AV_TABLE});
    tables();
    if (provider_is_ours()) {
        refusals();
        services();
        struct fid_av *av;
        struct fi_av_attr named = {.type = FI_AV_TABLE, .name = (char *)"shared", .flags = FI_READ};
        int result = fi_av_open(node.domain, &named, &av, NULL);
        CHECK(result < 0, "a shared address vector was opened: MPICH would look for its map");
    }
    close_node(&node);
    open_node(&node, &(struct wish){.av_type = FI_AV_MAP});
    fi_addr_t self = insert(&node, node.name);
    uint8_t found[NAME_BYTES];
    size_t length = sizeof found;
    OK(fi_av_lookup(node.av, self, found, &length));
    CHECK(length == node.name_length && memcmp(found, node.name, length) == 0, "another name");
    close_node(&node);
    return 0;
}
