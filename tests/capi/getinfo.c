/*
 * What fi_getinfo answers: to no hints, to the hints of MPICH, Open MPI and Intel MPI, to hints that cannot be
 * met, to addresses; and that what it returns is well-formed and can be copied and freed.
 */
#include "harness.h"

static struct fi_info *ask(uint32_t version, const char *node, const char *service, uint64_t flags,
                           const struct fi_info *hints, int expected)
{
    struct fi_info *info = NULL;
    int result = fi_getinfo(version, node, service, flags, hints, &info);
    if (result != expected)
        FAIL("fi_getinfo returned %d (%s), expected %d", result, fi_strerror(-result), expected);
    return info;
}

static struct fi_info *plain_hints(void)
{
    struct fi_info *hints = fi_allocinfo();
    CHECK(hints != NULL, "no memory");
    hints->fabric_attr->prov_name = strdup(provider_name());
    return hints;
}

static void check_info(const struct fi_info *info)
{
    CHECK(info->src_addr != NULL && info->src_addrlen > 0, "no source address");
    CHECK(info->fabric_attr != NULL && info->fabric_attr->name != NULL, "no fabric name");
    CHECK(info->fabric_attr->prov_name != NULL, "no provider name");
    CHECK(strcmp(info->fabric_attr->prov_name, provider_name()) == 0, "provider %s", info->fabric_attr->prov_name);
    CHECK(info->domain_attr != NULL && info->domain_attr->name != NULL, "no domain name");
    CHECK(info->ep_attr != NULL && info->tx_attr != NULL && info->rx_attr != NULL, "a part is missing");
    CHECK(info->ep_attr->max_msg_size >= 16384, "max_msg_size %zu", info->ep_attr->max_msg_size);
}

/* Every answer, its copy, and both freed. */
static struct fi_info *check_list(struct fi_info *list)
{
    CHECK(list != NULL, "an empty list");
    for (struct fi_info *info = list; info != NULL; info = info->next) {
        check_info(info);
        struct fi_info *copy = fi_dupinfo(info);
        CHECK(copy != NULL, "fi_dupinfo");
        check_info(copy);
        CHECK(copy->src_addrlen == info->src_addrlen && memcmp(copy->src_addr, info->src_addr, info->src_addrlen) == 0,
              "the copy has another address");
        fi_freeinfo(copy);
    }
    return list;
}

/* What MPICH 4.3 asks in its second call: the capabilities of the first answer, with demands. */
static void like_mpich(uint64_t caps, uint64_t tx_msg_order)
{
    struct fi_info *hints = plain_hints();
    hints->caps = caps;
    hints->mode = FI_CONTEXT | FI_ASYNC_IOV | FI_RX_CQ_DATA | FI_CONTEXT2;
    hints->tx_attr->op_flags = FI_COMPLETION | FI_DELIVERY_COMPLETE;
    /* It asks for the order of atomics too, and where that is refused, once more for what was offered. */
    hints->tx_attr->msg_order = tx_msg_order;
    hints->rx_attr->msg_order = FI_ORDER_SAS;
    hints->rx_attr->op_flags = FI_COMPLETION;
    hints->ep_attr->type = FI_EP_RDM;
    hints->ep_attr->mem_tag_format = 0xc000007fffffffULL;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->control_progress = hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->av_type = FI_AV_TABLE;
    hints->domain_attr->mr_mode = FI_MR_ENDPOINT;
    hints->domain_attr->mode = FI_RESTRICTED_COMP;
    hints->domain_attr->cq_data_size = 4;
    struct fi_info *info = check_list(ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, 0));
    CHECK(info->domain_attr->threading == FI_THREAD_DOMAIN, "threading %d: MPICH aborts", info->domain_attr->threading);
    CHECK(info->domain_attr->av_type == FI_AV_TABLE, "av_type %d", info->domain_attr->av_type);
    CHECK((info->caps & caps) == caps, "capabilities lost: 0x%" PRIx64, caps & ~info->caps);
    CHECK(info->domain_attr->mr_mode == 0, "mr_mode 0x%x", info->domain_attr->mr_mode);
    CHECK(info->mode == 0, "mode 0x%" PRIx64, info->mode);
    fi_freeinfo(info);
    fi_freeinfo(hints);
}

/* Open MPI 4.1's mtl/ofi. */
static void like_open_mpi(void)
{
    struct fi_info *hints = plain_hints();
    hints->caps = FI_TAGGED | FI_LOCAL_COMM | FI_REMOTE_COMM | FI_DIRECTED_RECV;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->tx_attr->op_flags = hints->rx_attr->op_flags = FI_COMPLETION;
    hints->tx_attr->msg_order = hints->rx_attr->msg_order = FI_ORDER_SAS;
    hints->domain_attr->threading = FI_THREAD_SAFE;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->av_type = FI_AV_MAP;
    hints->domain_attr->cq_data_size = sizeof(int);
    struct fi_info *info = check_list(ask(FI_VERSION(1, 5), NULL, NULL, 0, hints, 0));
    CHECK(info->domain_attr->threading == FI_THREAD_SAFE, "threading %d", info->domain_attr->threading);
    CHECK(info->ep_attr->mem_tag_format >> 63, "mem_tag_format 0x%" PRIx64, info->ep_attr->mem_tag_format);
    fi_freeinfo(info);
    fi_freeinfo(hints);
}

/* Each of these alone cannot be met. */
static void impossible(void)
{
    struct fi_info *hints = plain_hints();
    hints->caps = FI_MSG | FI_MULTICAST;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->caps = FI_MSG | FI_HMEM;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->caps = FI_MSG | (uint64_t)1 << 44; /* means different things in different versions */
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->caps = 0;
    hints->ep_attr->type = FI_EP_DGRAM;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->ep_attr->type = FI_EP_MSG;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->cq_data_size = 4096;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->domain_attr->cq_data_size = 0;
    hints->tx_attr->iov_limit = 1 << 20;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->tx_attr->iov_limit = 0;
    hints->tx_attr->inject_size = (size_t)1 << 40;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->tx_attr->inject_size = 0;
    hints->addr_format = FI_ADDR_STR;
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    hints->addr_format = FI_FORMAT_UNSPEC;
    hints->fabric_attr->name = strdup("no-such-fabric");
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    free(hints->fabric_attr->name);
    hints->fabric_attr->name = NULL;
    hints->domain_attr->name = strdup("no-such-domain");
    ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, -FI_ENODATA);
    free(hints->domain_attr->name);
    hints->domain_attr->name = NULL;
    /* The same hints with nothing impossible in them are met. */
    fi_freeinfo(ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, 0));
    fi_freeinfo(hints);
}

static void addresses(void)
{
    struct fi_info *hints = plain_hints();
    hints->ep_attr->type = FI_EP_RDM;
    hints->addr_format = FI_SOCKADDR_IN;
    struct fi_info *info = check_list(ask(FI_VERSION(1, 17), "127.0.0.1", "41234", FI_SOURCE | FI_NUMERICHOST, hints, 0));
    const struct sockaddr_in *source = info->src_addr;
    CHECK(info->addr_format == FI_SOCKADDR_IN && source->sin_family == AF_INET, "format %u", info->addr_format);
    CHECK(ntohs(source->sin_port) == 41234, "port %u", ntohs(source->sin_port));
    CHECK(source->sin_addr.s_addr == htonl(INADDR_LOOPBACK), "another source address");
    fi_freeinfo(info);
    info = check_list(ask(FI_VERSION(1, 17), "127.0.0.1", "41235", 0, hints, 0));
    const struct sockaddr_in *destination = info->dest_addr;
    CHECK(destination != NULL && info->dest_addrlen >= sizeof *destination, "no destination address");
    CHECK(ntohs(destination->sin_port) == 41235, "port %u", ntohs(destination->sin_port));
    fi_freeinfo(info);
    ask(FI_VERSION(1, 17), "no-such-host.invalid", "1", 0, hints, -FI_ENODATA);
    /* The provider says -FI_EINVAL, and libfabric makes that of it. */
    ask(FI_VERSION(1, 17), NULL, NULL, FI_SOURCE, hints, -FI_ENODATA);
    fi_freeinfo(hints);
}

/* Without hints everybody's answers come; MPICH and Intel MPI begin like this. */
static struct fi_info *without_hints(void)
{
    struct fi_info *all = ask(FI_VERSION(1, 17), NULL, NULL, 0, NULL, 0), *ours = NULL;
    for (struct fi_info *info = all; info != NULL; info = info->next) {
        /* No layered provider offers itself on top of ours. */
        CHECK(strstr(info->fabric_attr->prov_name, "rdgram;") == NULL, "%s is offered", info->fabric_attr->prov_name);
        if (ours == NULL && strcmp(info->fabric_attr->prov_name, provider_name()) == 0)
            ours = fi_dupinfo(info);
    }
    CHECK(ours != NULL, "%s is not offered without hints", provider_name());
    fi_freeinfo(all);
    return ours;
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("the answers asked for here are this project's");
    struct fi_info *hints = plain_hints();
    struct fi_info *info = check_list(ask(FI_VERSION(1, 17), NULL, NULL, 0, hints, 0));
    for (struct fi_info *one = info; one != NULL; one = one->next)
        CHECK(one->ep_attr->type == FI_EP_RDM, "an endpoint of type %d is offered", one->ep_attr->type);
    fi_freeinfo(info);
    fi_freeinfo(hints);

    info = check_list(without_hints());
    uint64_t wanted = FI_MSG | FI_TAGGED | FI_SEND | FI_RECV | FI_MULTI_RECV | FI_DIRECTED_RECV | FI_SOURCE;
    uint64_t caps = info->caps, tx_msg_order = info->tx_attr->msg_order;
    CHECK(tx_msg_order & FI_ORDER_SAS, "order 0x%" PRIx64, tx_msg_order);
    CHECK((caps & wanted) == wanted, "without hints not all of it is offered: 0x%" PRIx64, caps);
    CHECK(info->domain_attr->cq_data_size >= 4, "cq_data_size %zu", info->domain_attr->cq_data_size);
    CHECK(info->domain_attr->max_ep_tx_ctx == 1 && info->domain_attr->max_ep_rx_ctx == 1, "scalable endpoints are offered");
    fi_freeinfo(info);
    like_mpich(caps, tx_msg_order);
    like_open_mpi();
    impossible();
    addresses();
    for (unsigned minor = 4; minor <= 17; minor++) {
        hints = plain_hints();
        fi_freeinfo(check_list(ask(FI_VERSION(1, minor), NULL, NULL, 0, hints, 0)));
        fi_freeinfo(hints);
    }
    return 0;
}
