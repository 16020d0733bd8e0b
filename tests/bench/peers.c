/*
 * What peers cost: one endpoint here, N in other processes. All N are inserted, each is sent one message and
 * answers it, then nothing is said for two seconds while everybody makes progress.
 *
 *   peers N       provider from RDGRAM_TEST_PROVIDER
 *
 * One more peer is talked to first, so that what the first message of all costs is not counted. Prints
 * "bench: peers n=N processes=N unused_b=F first_s=F idle_b=F kernel_b=F descriptors=N": bytes are growth of
 * this process's memory per peer; kernel_b is growth of the whole machine's slab, but for caches, per peer (of
 * both ends, and only true on a quiet machine); descriptors is growth in number.
 */
#include "many.h"

enum { MESSAGE_BYTES = 8, PER_PROCESS = 1024, MOST_PROCESSES = 64, POSTED = 64, IDLE_SECONDS = 2 };

/* ---- a process that holds endpoints, each of which answers one message ---- */

struct holder {
    struct many many;
    struct fi_context2 *receives, *sends;
    char (*buffers)[MESSAGE_BYTES];
    fi_addr_t asker;
};

static void answer(struct holder *holder, const struct fi_cq_tagged_entry *entry)
{
    if ((entry->flags & FI_RECV) == 0)
        return;
    size_t i = (size_t)((struct fi_context2 *)entry->op_context - holder->receives);
    CHECK(i < holder->many.count && entry->len == MESSAGE_BYTES, "endpoint %zu, %zu bytes", i, entry->len);
    RETRY(&holder->many.node, fi_send(holder->many.endpoints[i], holder->buffers[i], MESSAGE_BYTES, NULL,
                                      holder->asker, &holder->sends[i]));
}

static void hold(struct peer *peer, size_t count)
{
    struct holder holder = {0};
    uint8_t asker[NAME_BYTES];
    enter_host("RDGRAM_NET_B");
    open_many(&holder.many, count);
    holder.receives = must_allocate(count, sizeof *holder.receives);
    holder.sends = must_allocate(count, sizeof *holder.sends);
    holder.buffers = must_allocate(count, sizeof *holder.buffers);
    for (size_t i = 0; i < count; i++)
        RETRY(&holder.many.node, fi_recv(holder.many.endpoints[i], holder.buffers[i], MESSAGE_BYTES, NULL,
                                         FI_ADDR_UNSPEC, &holder.receives[i]));
    tell(peer, &holder.many.name_length, sizeof holder.many.name_length);
    for (size_t i = 0; i < count; i++)
        tell(peer, holder.many.names[i], NAME_BYTES);
    hear(peer, asker, NAME_BYTES);
    holder.asker = insert(&holder.many.node, asker);
    while (!is_called(peer))
        for (int read = 0; read < READS_PER_LOOK; read++) {
            struct fi_cq_tagged_entry entry;
            if (take(&holder.many.node, &entry))
                answer(&holder, &entry);
        }
    /* The asker is through; ending without ceremony costs the measurement nothing. */
    _exit(0);
}

/* ---- the process that is measured ---- */

struct asker {
    struct node node;
    size_t count, processes;
    struct peer holders[MOST_PROCESSES];
    uint8_t *names; /* the first is the one talked to beforehand */
    fi_addr_t *addresses;
    bool *sent;
    struct fi_context2 *sends, receives[POSTED];
    char buffer[MESSAGE_BYTES], buffers[POSTED][MESSAGE_BYTES];
};

static void start_holders(struct asker *asker)
{
    asker->processes = (asker->count + PER_PROCESS - 1) / PER_PROCESS;
    CHECK(asker->processes <= MOST_PROCESSES, "too many endpoints");
    size_t left = asker->count + 1;
    for (size_t i = 0; i < asker->processes; i++) {
        size_t share = left / (asker->processes - i);
        if (start_peer(&asker->holders[i]))
            hold(&asker->holders[i], share);
        left -= share;
    }
}

static void hear_names(struct asker *asker)
{
    size_t at = 0, left = asker->count + 1;
    for (size_t i = 0; i < asker->processes; i++) {
        size_t share = left / (asker->processes - i), length;
        hear(&asker->holders[i], &length, sizeof length);
        CHECK(length == asker->node.name_length, "names of %zu and %zu bytes", length, asker->node.name_length);
        for (size_t j = 0; j < share; j++) {
            uint8_t name[NAME_BYTES];
            hear(&asker->holders[i], name, NAME_BYTES);
            memcpy(asker->names + at++ * length, name, length);
        }
        tell(&asker->holders[i], asker->node.name, NAME_BYTES);
        left -= share;
    }
}

/* Takes what has come. Returns how many answers it was. */
static size_t collect(struct asker *asker)
{
    size_t answers = 0;
    struct fi_cq_tagged_entry entry;
    while (take(&asker->node, &entry)) {
        if ((entry.flags & FI_RECV) == 0)
            continue;
        size_t i = (size_t)((struct fi_context2 *)entry.op_context - asker->receives);
        CHECK(i < POSTED && entry.len == MESSAGE_BYTES, "receive %zu, %zu bytes", i, entry.len);
        RETRY(&asker->node, fi_recv(asker->node.ep, asker->buffers[i], MESSAGE_BYTES, NULL, FI_ADDR_UNSPEC,
                                    &asker->receives[i]));
        answers++;
    }
    return answers;
}

/* One message to each of these peers and one from each. A peer that takes nothing yet is passed over. */
static void talk(struct asker *asker, size_t from, size_t to)
{
    size_t answers = 0, first_unsent = from;
    double limit = now_seconds() + WAIT_SECONDS;
    while (answers < to - from) {
        CHECK(now_seconds() < limit, "%zu of %zu peers have answered after %d s", answers, to - from,
              WAIT_SECONDS);
        for (size_t i = first_unsent; i < to; i++) {
            if (asker->sent[i])
                continue;
            ssize_t result = fi_send(asker->node.ep, asker->buffer, MESSAGE_BYTES, NULL, asker->addresses[i],
                                     &asker->sends[i]);
            CHECK(result == 0 || result == -FI_EAGAIN, "fi_send: %s", fi_strerror((int)-result));
            asker->sent[i] = result == 0;
            answers += collect(asker);
        }
        while (first_unsent < to && asker->sent[first_unsent])
            first_unsent++;
        answers += collect(asker);
    }
}

static double per_peer(const struct asker *asker, long before_kb, long after_kb)
{
    return (double)(after_kb - before_kb) * 1024.0 / (double)asker->count;
}

static void prepare(struct asker *asker)
{
    struct wish wish = {0};
    enter_host("RDGRAM_NET_A");
    open_node(&asker->node, &wish);
    asker->names = must_touch(asker->count + 1, asker->node.name_length);
    asker->addresses = must_touch(asker->count + 1, sizeof *asker->addresses);
    asker->sends = must_touch(asker->count + 1, sizeof *asker->sends);
    asker->sent = memset(must_touch(asker->count + 1, sizeof *asker->sent), 0, asker->count + 1);
    hear_names(asker);
    for (size_t i = 0; i < POSTED; i++)
        RETRY(&asker->node, fi_recv(asker->node.ep, asker->buffers[i], MESSAGE_BYTES, NULL, FI_ADDR_UNSPEC,
                                    &asker->receives[i]));
    asker->addresses[0] = insert(&asker->node, asker->names);
    talk(asker, 0, 1);
}

static void measure(struct asker *asker)
{
    long resident = resident_kb(), slab = slab_kb();
    int descriptors = each_descriptor(NULL, NULL);
    RETURNS((ssize_t)asker->count, fi_av_insert(asker->node.av, asker->names + asker->node.name_length,
                                                asker->count, asker->addresses + 1, 0, NULL));
    double unused = per_peer(asker, resident, resident_kb());
    double start = now_seconds();
    talk(asker, 1, asker->count + 1);
    double first = now_seconds() - start;
    for (double limit = now_seconds() + IDLE_SECONDS; now_seconds() < limit;)
        collect(asker);
    printf("bench: peers n=%zu processes=%zu unused_b=%.1f first_s=%.6f idle_b=%.1f kernel_b=%.1f descriptors=%d\n",
           asker->count, asker->processes, unused, first, per_peer(asker, resident, resident_kb()),
           per_peer(asker, slab, slab_kb()), each_descriptor(NULL, NULL) - descriptors);
}

int main(int argc, char **argv)
{
    static struct asker asker;
    CHECK(argc == 2, "usage: peers N");
    asker.count = number_argument(argv[1]);
    begin("asker");
    start_holders(&asker);
    prepare(&asker);
    measure(&asker);
    for (size_t i = 0; i < asker.processes; i++)
        tell(&asker.holders[i], "e", 1);
    for (size_t i = 0; i < asker.processes; i++)
        CHECK(finish_peer(&asker.holders[i]) == 0, "a holder failed");
    close_node(&asker.node);
    return 0;
}
