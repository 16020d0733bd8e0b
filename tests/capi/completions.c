/*
 * Completion queues: all entry formats, several entries at once, selective completion, the completion levels,
 * and more completions than the queue was made for.
 */
#include "harness.h"

enum { MANY = 3000 };

static struct node node;
static fi_addr_t self;

static void formats(void)
{
    static const enum fi_cq_format list[] = {FI_CQ_FORMAT_CONTEXT, FI_CQ_FORMAT_MSG, FI_CQ_FORMAT_DATA, FI_CQ_FORMAT_TAGGED};
    static const size_t sizes[] = {sizeof(struct fi_cq_entry), sizeof(struct fi_cq_msg_entry),
                                   sizeof(struct fi_cq_data_entry), sizeof(struct fi_cq_tagged_entry)};
    for (int i = 0; i < 4; i++) {
        struct fi_context2 context;
        uint64_t word = 77, in = 0;
        struct {
            struct fi_cq_tagged_entry entry;
            uint8_t guard[64];
        } room;
        open_node(&node, &(struct wish){.format = list[i]});
        self = insert(&node, node.name);
        memset(&room, 0xdd, sizeof room);
        RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 0x1234, 0, &context));
        RETRY(&node, fi_tinject(node.ep, &word, sizeof word, self, 0x1234));
        completion(&node, &room.entry);
        CHECK(room.entry.op_context == &context, "format %d: another context", list[i]);
        if (list[i] >= FI_CQ_FORMAT_MSG)
            CHECK(room.entry.len == sizeof word && room.entry.flags & FI_RECV, "format %d: len %zu", list[i], room.entry.len);
        if (list[i] == FI_CQ_FORMAT_TAGGED)
            CHECK(room.entry.tag == 0x1234, "tag 0x%" PRIx64, room.entry.tag);
        const uint8_t *bytes = (const uint8_t *)&room;
        for (size_t at = sizes[i]; at < sizeof room; at++)
            CHECK(bytes[at] == 0xdd, "format %d: written at %zu, behind the entry", list[i], at);
        close_node(&node);
    }
}

static void selective(void)
{
    struct fi_context2 silent, loud;
    struct fi_cq_tagged_entry entry;
    uint64_t word = 5, in[2];
    open_node(&node, &(struct wish){.cq_bind_flags = FI_SELECTIVE_COMPLETION});
    self = insert(&node, node.name);
    struct iovec iov = {&in[1], sizeof in[1]};
    struct fi_msg_tagged receive = {.msg_iov = &iov, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .tag = 2, .context = &loud};
    RETRY(&node, fi_trecv(node.ep, &in[0], sizeof in[0], NULL, FI_ADDR_UNSPEC, 1, 0, &silent));
    RETRY(&node, fi_trecvmsg(node.ep, &receive, FI_COMPLETION));
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, self, 1, &silent));
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, self, 2, &silent));
    completion_of(&node, &loud, &entry);
    no_completion(&node);
    CHECK(in[0] == word && in[1] == word, "received %" PRIu64 " %" PRIu64, in[0], in[1]);
    struct iovec out = {&word, sizeof word};
    struct fi_msg_tagged send = {.msg_iov = &out, .iov_count = 1, .addr = self, .tag = 3, .context = &loud};
    RETRY(&node, fi_tsendmsg(node.ep, &send, FI_COMPLETION));
    RETRY(&node, fi_trecv(node.ep, &in[0], sizeof in[0], NULL, FI_ADDR_UNSPEC, 3, 0, &silent));
    completion_of(&node, &loud, &entry);
    CHECK(entry.flags & FI_SEND, "flags 0x%" PRIx64, entry.flags);
    close_node(&node);
}

static void many_at_once(void)
{
    static struct fi_context2 contexts[MANY];
    static uint32_t in[MANY];
    static bool seen[MANY];
    struct fi_cq_tagged_entry entries[16];
    open_node(&node, &(struct wish){0});
    self = insert(&node, node.name);
    /* Nothing is read in between: the entries have to be kept. */
    for (uint32_t i = 0; i < MANY; i++) {
        ssize_t result = fi_trecv(node.ep, &in[i], sizeof in[i], NULL, FI_ADDR_UNSPEC, i, 0, &contexts[i]);
        CHECK(result == 0 || result == -FI_EAGAIN, "fi_trecv: %zd", result);
        if (result == -FI_EAGAIN)
            skip("%s takes only %u receives", provider_name(), i);
    }
    for (uint32_t i = 0; i < MANY; i++)
        RETRY(&node, fi_tinject(node.ep, &i, sizeof i, self, i));
    for (unsigned got = 0; got < MANY;) {
        double limit = now_seconds() + WAIT_SECONDS;
        ssize_t count;
        while ((count = fi_cq_read(node.cq, entries, 16)) == -FI_EAGAIN)
            CHECK(now_seconds() < limit, "%u of %d completions", got, MANY);
        CHECK(count > 0 && count <= 16, "fi_cq_read: %zd", count);
        for (ssize_t i = 0; i < count; i++) {
            size_t which = (size_t)((struct fi_context2 *)entries[i].op_context - contexts);
            CHECK(which < MANY && !seen[which], "completion of receive %zu", which);
            CHECK(in[which] == which, "receive %zu got %u", which, in[which]);
            seen[which] = true;
        }
        got += (unsigned)count;
    }
    no_completion(&node);
    close_node(&node);
}

static void levels(void)
{
    static const uint64_t list[] = {FI_INJECT_COMPLETE, FI_TRANSMIT_COMPLETE, FI_DELIVERY_COMPLETE};
    for (int i = 0; i < 3; i++) {
        static uint8_t out[50000], in[50000];
        struct fi_context2 send_context, receive_context;
        struct fi_cq_tagged_entry entry;
        open_node(&node, &(struct wish){0});
        self = insert(&node, node.name);
        struct iovec iov = {out, sizeof out};
        struct fi_msg_tagged send = {.msg_iov = &iov, .iov_count = 1, .addr = self, .tag = 3, .context = &send_context};
        pattern_fill(out, sizeof out, 4);
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, 3, 0, &receive_context));
        RETRY(&node, fi_tsendmsg(node.ep, &send, FI_COMPLETION | list[i]));
        completion(&node, &entry);
        completion(&node, &entry);
        pattern_check(in, sizeof in, 4, "message");
        close_node(&node);
    }
}

int main(void)
{
    begin("");
    formats();
    selective();
    if (provider_is_ours())
        levels();
    many_at_once();
    return 0;
}
