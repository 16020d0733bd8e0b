/*
 * All nine calls of the message interface and all nine of the tagged one, between two processes, over sizes
 * from nothing to 4 MiB: every completion carries the right length, flags, data, tag, and every byte is right.
 */
#include "harness.h"

enum { LARGEST = 4 << 20, TAG_BASE = 1000 };
static const uint64_t REMOTE_DATA = 0x1122334455667788;

static const size_t sizes[] = {0,     1,     8,     63,    64,    1023,  1024,   1025,   4096,  8191,
                               16383, 16384, 16385, 65535, 65536, 65537, 262144, 1 << 20, LARGEST};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

enum call { PLAIN, VECTOR, MESSAGE, DATA, INJECT, INJECT_DATA, CALLS };

static struct node node;
static struct peer peer;
static struct fi_context2 send_context, receive_context;
static uint8_t *out, *in;
static uint64_t data_mask;

static bool carries_data(enum call call)
{
    return call == DATA || call == INJECT_DATA || call == MESSAGE;
}

static bool is_inject(enum call call)
{
    return call == INJECT || call == INJECT_DATA;
}

/* Three pieces of uneven length. */
static void split(struct iovec *iov, uint8_t *buffer, size_t length)
{
    size_t first = length / 3, second = length / 2 - first;
    iov[0] = (struct iovec){buffer, first};
    iov[1] = (struct iovec){buffer + first, second};
    iov[2] = (struct iovec){buffer + first + second, length - first - second};
}

static ssize_t send_message(enum call call, size_t length, uint64_t data)
{
    struct iovec iov[3];
    split(iov, out, length);
    struct fi_msg msg = {.msg_iov = iov, .iov_count = 3, .addr = peer.address, .context = &send_context, .data = data};
    switch (call) {
    case PLAIN: return fi_send(node.ep, out, length, NULL, peer.address, &send_context);
    case VECTOR: return fi_sendv(node.ep, iov, NULL, 3, peer.address, &send_context);
    case MESSAGE: return fi_sendmsg(node.ep, &msg, FI_REMOTE_CQ_DATA | FI_COMPLETION);
    case DATA: return fi_senddata(node.ep, out, length, NULL, data, peer.address, &send_context);
    case INJECT: return fi_inject(node.ep, out, length, peer.address);
    default: return fi_injectdata(node.ep, out, length, data, peer.address);
    }
}

static ssize_t send_tagged(enum call call, size_t length, uint64_t data, uint64_t tag)
{
    struct iovec iov[3];
    split(iov, out, length);
    struct fi_msg_tagged msg = {.msg_iov = iov, .iov_count = 3, .addr = peer.address, .tag = tag,
                                .context = &send_context, .data = data};
    switch (call) {
    case PLAIN: return fi_tsend(node.ep, out, length, NULL, peer.address, tag, &send_context);
    case VECTOR: return fi_tsendv(node.ep, iov, NULL, 3, peer.address, tag, &send_context);
    case MESSAGE: return fi_tsendmsg(node.ep, &msg, FI_REMOTE_CQ_DATA | FI_COMPLETION);
    case DATA: return fi_tsenddata(node.ep, out, length, NULL, data, peer.address, tag, &send_context);
    case INJECT: return fi_tinject(node.ep, out, length, peer.address, tag);
    default: return fi_tinjectdata(node.ep, out, length, data, peer.address, tag);
    }
}

/* The receiving calls take turns. */
static ssize_t post(bool tagged, unsigned turn, size_t length, uint64_t tag)
{
    struct iovec iov[3];
    split(iov, in, length);
    struct fi_msg msg = {.msg_iov = iov, .iov_count = 3, .addr = peer.address, .context = &receive_context};
    struct fi_msg_tagged tmsg = {.msg_iov = iov, .iov_count = 3, .addr = peer.address, .tag = tag,
                                 .context = &receive_context};
    if (!tagged)
        switch (turn % 3) {
        case 0: return fi_recv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, &receive_context);
        case 1: return fi_recvv(node.ep, iov, NULL, 3, FI_ADDR_UNSPEC, &receive_context);
        default: return fi_recvmsg(node.ep, &msg, FI_COMPLETION);
        }
    switch (turn % 3) {
    case 0: return fi_trecv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, tag, 0, &receive_context);
    case 1: return fi_trecvv(node.ep, iov, NULL, 3, FI_ADDR_UNSPEC, tag, 0, &receive_context);
    default: return fi_trecvmsg(node.ep, &tmsg, FI_COMPLETION);
    }
}

static void check_receive(const struct fi_cq_tagged_entry *entry, bool tagged, enum call call, size_t length,
                          uint64_t tag, uint64_t data)
{
    CHECK(entry->len == length, "call %d: len %zu, sent %zu", call, entry->len, length);
    CHECK(entry->flags & FI_RECV, "flags 0x%" PRIx64, entry->flags);
    CHECK(entry->flags & (tagged ? FI_TAGGED : FI_MSG), "flags 0x%" PRIx64, entry->flags);
    if (tagged)
        CHECK(entry->tag == tag, "tag %" PRIu64 ", expected %" PRIu64, entry->tag, tag);
    CHECK(!(entry->flags & FI_REMOTE_CQ_DATA) == !carries_data(call), "call %d: flags 0x%" PRIx64, call, entry->flags);
    if (carries_data(call))
        CHECK(entry->data == (data & data_mask), "data 0x%" PRIx64, entry->data);
}

/* One message in each direction; both sides run the same code, the first process sends first. */
static void exchange(bool tagged, enum call call, size_t length, unsigned turn, bool first)
{
    struct fi_cq_tagged_entry entry;
    uint64_t tag = TAG_BASE + turn, data = (REMOTE_DATA + turn) & data_mask;
    bool sent = is_inject(call), received = false;
    memset(in, 0xee, length);
    RETRY(&node, post(tagged, turn, length, tag));
    for (int step = 0; step < 2; step++) {
        if ((step == 0) == first) {
            pattern_fill(out, length, turn * 2 + first);
            RETRY(&node, tagged ? send_tagged(call, length, data, tag) : send_message(call, length, data));
            if (is_inject(call))
                memset(out, 0x55, length); /* the buffer is ours again at once */
        }
        /* The side that sends second answers only what it has received. */
        while ((step == 0) != first && !received) {
            completion(&node, &entry);
            received = entry.op_context == &receive_context;
            if (received)
                check_receive(&entry, tagged, call, length, tag, data);
            else
                sent = true;
        }
    }
    while (!sent || !received) {
        completion(&node, &entry);
        if (entry.op_context == &receive_context) {
            CHECK(!received, "a second completion of one receive");
            check_receive(&entry, tagged, call, length, tag, data);
            received = true;
        } else {
            CHECK(entry.op_context == &send_context && !sent, "a completion of no operation");
            CHECK(entry.flags & FI_SEND, "flags 0x%" PRIx64, entry.flags);
            sent = true;
        }
    }
    pattern_check(in, length, turn * 2 + !first, tagged ? "tagged" : "message");
}

int main(void)
{
    bool first = !start_peer(&peer);
    unsigned turn = 0;
    open_node(&node, &(struct wish){0});
    size_t width = node.info->domain_attr->cq_data_size;
    data_mask = width >= 8 ? UINT64_MAX : ((uint64_t)1 << (8 * width)) - 1;
    out = malloc(LARGEST);
    in = malloc(LARGEST);
    CHECK(out != NULL && in != NULL, "no memory");
    introduce(&peer, &node);
    for (int tagged = 0; tagged < 2; tagged++)
        for (int call = 0; call < CALLS; call++)
            for (int size = 0; size < SIZES; size++) {
                if (is_inject(call) && sizes[size] > node.info->tx_attr->inject_size)
                    continue;
                exchange(tagged, call, sizes[size], turn++, first);
            }
    meet(&peer, &node);
    close_node(&node);
    if (first)
        printf("%u messages each way\n", turn);
    return finish_peer(&peer);
}
