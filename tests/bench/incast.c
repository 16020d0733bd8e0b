/*
 * Many senders to one receiver that is at times busy with something else: does the receiver's socket
 * overflow? The receiver computes between batches and makes no progress then, as an MPI rank does.
 *
 *   incast SENDERS MESSAGES BYTES      provider from RDGRAM_TEST_PROVIDER
 *
 * Every sender sends MESSAGES messages of BYTES, a few at a time. Prints "bench: incast senders=N messages=N
 * bytes=N seconds=F mb_s=F receiver_drops=N sender_drops=N": datagrams the kernel dropped for lack of room at
 * the sockets of each side, by its own count.
 */
#include "many.h"

enum { PROCESSES = 4, IN_FLIGHT = 4, POSTED = 64, COMPUTE_MS = 20, BATCHES_PER_RUN = 16 };

struct task {
    size_t senders, messages, bytes;
};

static size_t share_of(const struct task *task, size_t process)
{
    return task->senders / PROCESSES + (process < task->senders % PROCESSES);
}

/* ---- the senders of one process ---- */

struct sender {
    size_t sent;
    bool busy[IN_FLIGHT];
    struct fi_context2 contexts[IN_FLIGHT];
};

struct senders {
    struct many many;
    const struct task *task;
    struct sender *states;
    char *payload;
    fi_addr_t target;
    size_t completed;
};

static void send_some(struct senders *senders, size_t i)
{
    struct sender *state = &senders->states[i];
    for (size_t slot = 0; slot < IN_FLIGHT && state->sent < senders->task->messages; slot++) {
        if (state->busy[slot])
            continue;
        ssize_t result = fi_send(senders->many.endpoints[i], senders->payload, senders->task->bytes, NULL,
                                 senders->target, &state->contexts[slot]);
        CHECK(result == 0 || result == -FI_EAGAIN, "fi_send: %s", fi_strerror((int)-result));
        if (result != 0)
            return;
        state->busy[slot] = true;
        state->sent++;
    }
}

static void collect_sent(struct senders *senders)
{
    struct fi_cq_tagged_entry entry;
    while (take(&senders->many.node, &entry)) {
        size_t offset = (size_t)((char *)entry.op_context - (char *)senders->states);
        size_t i = offset / sizeof *senders->states;
        CHECK(i < senders->many.count, "a completion of something else");
        struct sender *state = &senders->states[i];
        state->busy[(struct fi_context2 *)entry.op_context - state->contexts] = false;
        senders->completed++;
    }
}

static void send_all(struct peer *peer, const struct task *task, size_t count)
{
    struct senders senders = {.task = task};
    uint8_t target[NAME_BYTES];
    enter_host("RDGRAM_NET_B");
    open_many(&senders.many, count);
    senders.states = must_allocate(count, sizeof *senders.states);
    senders.payload = must_touch(1, task->bytes);
    hear(peer, target, NAME_BYTES);
    senders.target = insert(&senders.many.node, target);
    tell(peer, "r", 1);
    char go;
    hear(peer, &go, 1);
    while (senders.completed < count * task->messages) {
        for (size_t i = 0; i < count; i++)
            send_some(&senders, i);
        collect_sent(&senders);
    }
    unsigned long drops = dropped_here();
    tell(peer, &drops, sizeof drops);
    while (!is_called(peer))
        collect_sent(&senders);
    _exit(0);
}

/* ---- the receiver ---- */

struct receiver {
    struct node node;
    const struct task *task;
    struct peer processes[PROCESSES];
    struct fi_context2 contexts[POSTED];
    char *buffers;
    size_t received;
};

static void post(struct receiver *receiver, size_t i)
{
    RETRY(&receiver->node, fi_recv(receiver->node.ep, receiver->buffers + i * receiver->task->bytes,
                                   receiver->task->bytes, NULL, FI_ADDR_UNSPEC, &receiver->contexts[i]));
}

static void receive_all(struct receiver *receiver)
{
    size_t total = receiver->task->senders * receiver->task->messages;
    size_t batch = total / BATCHES_PER_RUN + 1, next_pause = batch;
    double limit = now_seconds() + WAIT_SECONDS;
    while (receiver->received < total) {
        struct fi_cq_tagged_entry entry;
        if (!take(&receiver->node, &entry)) {
            CHECK(now_seconds() < limit, "%zu of %zu messages after %d s", receiver->received, total,
                  WAIT_SECONDS);
            continue;
        }
        CHECK(entry.len == receiver->task->bytes, "a message of %zu bytes", entry.len);
        post(receiver, (size_t)((struct fi_context2 *)entry.op_context - receiver->contexts));
        if (++receiver->received == next_pause) {
            usleep(COMPUTE_MS * 1000);
            next_pause += batch;
        }
    }
}

static unsigned long drops_of_senders(struct receiver *receiver)
{
    unsigned long total = 0, drops;
    for (size_t i = 0; i < PROCESSES; i++) {
        /* The last acknowledgements may still be owed. */
        while (!is_called(&receiver->processes[i]))
            progress(&receiver->node);
        hear(&receiver->processes[i], &drops, sizeof drops);
        total += drops;
    }
    return total;
}

static void measure(struct receiver *receiver)
{
    const struct task *task = receiver->task;
    struct wish wish = {0};
    char ready;
    enter_host("RDGRAM_NET_A");
    open_node(&receiver->node, &wish);
    receiver->buffers = must_touch(POSTED, task->bytes);
    for (size_t i = 0; i < POSTED; i++)
        post(receiver, i);
    for (size_t i = 0; i < PROCESSES; i++)
        tell(&receiver->processes[i], receiver->node.name, NAME_BYTES);
    for (size_t i = 0; i < PROCESSES; i++)
        hear(&receiver->processes[i], &ready, 1);
    double start = now_seconds();
    for (size_t i = 0; i < PROCESSES; i++)
        tell(&receiver->processes[i], "g", 1);
    receive_all(receiver);
    double seconds = now_seconds() - start;
    unsigned long sender_drops = drops_of_senders(receiver);
    printf("bench: incast senders=%zu messages=%zu bytes=%zu seconds=%.6f mb_s=%.1f receiver_drops=%lu sender_drops=%lu\n",
           task->senders, task->messages, task->bytes, seconds,
           (double)(task->senders * task->messages * task->bytes) / 1e6 / seconds, dropped_here(), sender_drops);
}

int main(int argc, char **argv)
{
    static struct receiver receiver;
    CHECK(argc == 4, "usage: incast SENDERS MESSAGES BYTES");
    struct task task = {.senders = number_argument(argv[1]),
                        .messages = number_argument(argv[2]),
                        .bytes = number_argument(argv[3])};
    CHECK(task.senders >= PROCESSES, "at least %d senders", PROCESSES);
    receiver.task = &task;
    begin("receiver");
    for (size_t i = 0; i < PROCESSES; i++)
        if (start_peer(&receiver.processes[i]))
            send_all(&receiver.processes[i], &task, share_of(&task, i));
    measure(&receiver);
    for (size_t i = 0; i < PROCESSES; i++)
        tell(&receiver.processes[i], "e", 1);
    for (size_t i = 0; i < PROCESSES; i++)
        CHECK(finish_peer(&receiver.processes[i]) == 0, "a sender failed");
    close_node(&receiver.node);
    return 0;
}
