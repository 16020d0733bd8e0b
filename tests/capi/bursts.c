/*
 * Bursts of small messages: the first leave at once, the end of a burst leaves with the next call that makes
 * progress and not before, unless a thread makes progress, be it in place of an application that makes none, or the
 * user has switched aggregation off.
 */
#include "harness.h"

enum { BURST = 20, AT_ONCE = 8, HELD_MS = 50, AWAY_MS = 20 };

/* What ends the holding: nothing is held, the next progress call, or the thread that stands in for an application that makes none. */
enum held { NOT_HELD, UNTIL_PROGRESS, WHILE_AWAY };

static struct node node;
static struct peer peer;

/* The first contact, in which the two learn what the other understands. */
static void greet(bool second)
{
    static uint64_t words[2];
    static struct fi_context2 contexts[2];
    struct fi_cq_tagged_entry entry;
    for (int i = 0; i < 2; i++)
        if (second) {
            struct iovec iov = {.iov_base = &words[i], .iov_len = sizeof *words};
            struct fi_msg_tagged message = {.msg_iov = &iov, .iov_count = 1, .addr = peer.address, .tag = BURST, .context = &contexts[i]};
            RETRY(&node, fi_tsendmsg(node.ep, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE));
        } else {
            RETRY(&node, fi_trecv(node.ep, &words[i], sizeof *words, NULL, FI_ADDR_UNSPEC, BURST, 0, &contexts[i]));
        }
    completion_of(&node, &contexts[0], &entry);
    if (!second)
        completion_of(&node, &contexts[1], &entry);
    meet(&peer, &node);
    /* The sender leaves the second completion in its queue: a read of no entries says that it is there. */
    double limit = now_seconds() + WAIT_SECONDS;
    while (second && fi_cq_read(node.cq, NULL, 0) != 0)
        CHECK(now_seconds() < limit, "the second completion does not come");
}

static void sender(enum held held)
{
    uint64_t token = 1;
    for (uint64_t i = 0; i < BURST; i++)
        RETRY(&node, fi_tinject(node.ep, &i, sizeof i, peer.address, i));
    tell(&peer, &token, sizeof token);
    /* Blocked in read(2), outside of libfabric: as good as computing. */
    hear(&peer, &token, sizeof token);
    if (held == UNTIL_PROGRESS) {
        /* A read that finds something makes progress too when something is held. */
        struct fi_cq_tagged_entry entry;
        CHECK(fi_cq_read(node.cq, &entry, 1) == 1, "the completion that was left is gone");
    }
    hear(&peer, &token, sizeof token);
}

/* How many of the messages are here after so long, or once all that are expected are. */
static unsigned arrived(unsigned before, unsigned expected, double seconds)
{
    struct fi_cq_tagged_entry entry;
    double limit = now_seconds() + seconds;
    while (before < expected && now_seconds() < limit)
        if (completion_within(&node, &entry, limit - now_seconds())) {
            CHECK(entry.tag == before, "message %" PRIu64 " after %u", entry.tag, before);
            before++;
        }
    return before;
}

static void receiver(enum held held)
{
    static uint64_t in[BURST];
    static struct fi_context2 contexts[BURST];
    uint64_t token;
    for (uint64_t i = 0; i < BURST; i++)
        RETRY(&node, fi_trecv(node.ep, &in[i], sizeof in[i], NULL, FI_ADDR_UNSPEC, i, 0, &contexts[i]));
    hear(&peer, &token, sizeof token);
    unsigned expected = held == NOT_HELD ? BURST : AT_ONCE;
    unsigned count = arrived(0, expected, WAIT_SECONDS);
    CHECK(count == expected, "%u messages of %d", count, BURST);
    double since = now_seconds();
    if (held == WHILE_AWAY) {
        count = arrived(count, BURST, WAIT_SECONDS);
        CHECK(count == BURST, "%u messages of %d while the sender is away", count, BURST);
        CHECK(now_seconds() - since > AWAY_MS / 1e3, "nothing was held back");
    }
    if (held == UNTIL_PROGRESS) {
        count = arrived(count, BURST, HELD_MS / 1e3);
        CHECK(count == AT_ONCE, "%u messages although the sender made no progress", count);
    }
    tell(&peer, &token, sizeof token);
    count = arrived(count, BURST, WAIT_SECONDS);
    CHECK(count == BURST, "%u messages of %d after the sender made progress", count, BURST);
    for (uint64_t i = 0; i < BURST; i++)
        CHECK(in[i] == i, "message %" PRIu64 " holds %" PRIu64, i, in[i]);
    tell(&peer, &token, sizeof token);
}

/* In a process of its own: settings are read once. */
static void run(const char *aggregate, enum fi_progress progress, enum held held)
{
    fflush(NULL);
    pid_t pid = fork();
    int status;
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        setenv("FI_RDGRAM_AGGREGATE", aggregate, 1);
        bool second = start_peer(&peer);
        open_node(&node, &(struct wish){.threading = FI_THREAD_SAFE, .data_progress = progress});
        introduce(&peer, &node);
        greet(second);
        if (second)
            sender(held);
        else
            receiver(held);
        close_node(&node);
        exit(finish_peer(&peer));
    }
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "aggregate %s, progress %d: status 0x%x", aggregate,
          (int)progress, (unsigned)status);
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about what this provider holds back");
    /* Without the thread that stands in for an application that makes no progress. */
    setenv("FI_RDGRAM_PROGRESS", "manual", 1);
    run("1", FI_PROGRESS_MANUAL, UNTIL_PROGRESS);
    run("0", FI_PROGRESS_MANUAL, NOT_HELD);
    unsetenv("FI_RDGRAM_PROGRESS");
    run("1", FI_PROGRESS_MANUAL, WHILE_AWAY);
    run("1", FI_PROGRESS_AUTO, NOT_HELD);
    return 0;
}
