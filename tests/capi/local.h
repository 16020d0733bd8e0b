/*
 * What the programs about peers on one host share: the provider's own counters, read from what it prints when an
 * endpoint closes; groups of processes that send each other messages without pause; bytes that are made and checked
 * eight at a time.
 */
#ifndef RDGRAM_TESTS_LOCAL_H
#define RDGRAM_TESTS_LOCAL_H

#include "harness.h"
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* ---- counters ---- */

enum { STATISTICS_BYTES = 1 << 16 };

/* To be called before the first call of libfabric. */
UNUSED static void want_counters(void)
{
    setenv("FI_RDGRAM_STATS", "1", 1);
}

/* What has to be put back. */
struct listening {
    int file;
    FILE *before;
};

/*
 * Until `stop_listening` what the provider says on stderr goes into a file that only this process has. What the program
 * itself says there still goes where it went before: a failure must not be swallowed.
 */
UNUSED static struct listening listen_to_stderr(void)
{
    int file = memfd_create("stderr", MFD_CLOEXEC), before = dup(STDERR_FILENO);
    CHECK(file >= 0 && before >= 0, "%s", strerror(errno));
    struct listening listening = {.file = file, .before = stderr};
    CHECK(dup2(file, STDERR_FILENO) == STDERR_FILENO, "%s", strerror(errno));
    stderr = fdopen(before, "w");
    CHECK(stderr != NULL, "no memory");
    return listening;
}

UNUSED static void stop_listening(struct listening *listening, char *text, size_t room)
{
    CHECK(dup2(fileno(stderr), STDERR_FILENO) == STDERR_FILENO, "%s", strerror(errno));
    fclose(stderr);
    stderr = listening->before;
    ssize_t length = pread(listening->file, text, room - 1, 0);
    CHECK(length >= 0, "%s", strerror(errno));
    text[length] = '\0';
    close(listening->file);
}

/* A counter of those that were printed, summed over the endpoints that closed. */
UNUSED static uint64_t counter_in(const char *text, const char *name)
{
    uint64_t sum = 0;
    bool found = false;
    char pattern[64];
    snprintf(pattern, sizeof pattern, " %s ", name);
    for (const char *at = text; (at = strstr(at, pattern)) != NULL; found = true) {
        at += strlen(pattern);
        sum += strtoull(at, NULL, 10);
    }
    if (!found)
        FAIL("no counter %s in: %s", name, text);
    return sum;
}

/* Closes the node, and returns what the provider printed meanwhile: its counters. */
UNUSED static const char *close_and_count(struct node *node)
{
    static char text[STATISTICS_BYTES];
    struct listening listening = listen_to_stderr();
    close_node(node);
    stop_listening(&listening, text, sizeof text);
    return text;
}

/* ---- bytes ---- */

UNUSED static uint64_t word_at(uint64_t seed, size_t at)
{
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + (uint64_t)at * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    return x * 0x94d049bb133111ebu;
}

UNUSED static void words_fill(void *buffer, size_t length, uint64_t seed)
{
    uint8_t *bytes = buffer;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = word_at(seed, at);
        memcpy(bytes + at, &word, length - at < 8 ? length - at : 8);
    }
}

UNUSED static bool words_match(const void *buffer, size_t length, uint64_t seed)
{
    const uint8_t *bytes = buffer;
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = word_at(seed, at);
        if (memcmp(bytes + at, &word, length - at < 8 ? length - at : 8) != 0)
            return false;
    }
    return true;
}

UNUSED static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- groups ---- */

enum { MEMBERS_MAX = 4, WINDOW = 4, MESSAGE_MAX = 192 << 10, STAGES = 5 };

/* Memory that all processes of a program share, through which nothing of the fabric goes. */
struct board {
    _Atomic unsigned arrived[STAGES];
    size_t name_length;
    uint8_t names[MEMBERS_MAX][NAME_BYTES];
    /* Set by the parent: nobody begins anything new; and when it ended a member, in ns. */
    _Atomic bool stop;
    _Atomic uint64_t killed_at;
    _Atomic unsigned victim;
    /* Messages that each has sent to each, known when it sends no more. */
    _Atomic int64_t sent[MEMBERS_MAX][MEMBERS_MAX];
    /* What the members report. */
    _Atomic uint64_t received[MEMBERS_MAX];
    _Atomic uint64_t ended_ns[MEMBERS_MAX];
    _Atomic uint64_t errors[MEMBERS_MAX];
    _Atomic uint64_t links[MEMBERS_MAX], full[MEMBERS_MAX], pulled[MEMBERS_MAX];
};

UNUSED static struct board *new_board(void)
{
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED, "%s", strerror(errno));
    return board;
}

UNUSED static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As many members reach this stage; progress is made while waiting. */
UNUSED static void reach(struct board *board, unsigned stage, unsigned members, struct node *node)
{
    double limit = now_seconds() + WAIT_SECONDS;
    atomic_fetch_add(&board->arrived[stage], 1);
    while (atomic_load(&board->arrived[stage]) < members) {
        progress(node);
        CHECK(now_seconds() < limit, "%u of %u members reached stage %u", atomic_load(&board->arrived[stage]), members,
              stage);
    }
}

/* Member `self` says its name and learns those of all others. */
UNUSED static void introduce_group(struct board *board, unsigned self, unsigned members, struct node *node,
                                   fi_addr_t *addresses)
{
    memcpy(board->names[self], node->name, sizeof node->name);
    reach(board, 0, members, node);
    for (unsigned other = 0; other < members; other++)
        addresses[other] = insert(node, board->names[other]);
}

/* ---- traffic of a group: each sends to each as fast as it goes, and receives from each by receives directed at it ---- */

struct talk_op {
    struct fi_context2 context;
    bool busy, sends;
    unsigned other;
    uint64_t number;
    size_t length;
    uint8_t *buffer;
};

struct talk {
    struct node *node;
    struct board *board;
    unsigned self, members;
    uint64_t seed;
    fi_addr_t addresses[MEMBERS_MAX];
    struct talk_op sends[MEMBERS_MAX][WINDOW], receives[MEMBERS_MAX][WINDOW];
    uint64_t sent[MEMBERS_MAX], sends_done[MEMBERS_MAX], posted[MEMBERS_MAX], received[MEMBERS_MAX];
    /* Longest message. */
    size_t longest;
    /* Operations of the other that have not ended, and the last error of one. */
    unsigned outstanding[MEMBERS_MAX];
    int error[MEMBERS_MAX];
};

UNUSED static void talk_begin(struct talk *talk, struct node *node, struct board *board, unsigned self,
                              unsigned members, uint64_t seed, size_t longest)
{
    CHECK(members <= MEMBERS_MAX && longest <= MESSAGE_MAX, "too large a group");
    memset(talk, 0, sizeof *talk);
    talk->node = node, talk->board = board, talk->self = self, talk->members = members;
    talk->seed = seed, talk->longest = longest;
    for (unsigned other = 0; other < members; other++) {
        for (unsigned i = 0; i < WINDOW; i++) {
            talk->sends[other][i] = (struct talk_op){.sends = true, .other = other, .buffer = malloc(longest)};
            talk->receives[other][i] = (struct talk_op){.other = other, .buffer = malloc(longest)};
            CHECK(talk->sends[other][i].buffer != NULL && talk->receives[other][i].buffer != NULL, "no memory");
        }
    }
    introduce_group(board, self, members, node, talk->addresses);
}

UNUSED static uint64_t talk_seed(const struct talk *talk, unsigned from, unsigned to, uint64_t number)
{
    return talk->seed * 1000003 + from * 101 + to * 11 + number * 7919;
}

/* Most are short; a part of the others is longer than what is put rather than pulled. */
UNUSED static size_t talk_length(const struct talk *talk, unsigned from, unsigned to, uint64_t number)
{
    uint64_t random = word_at(talk_seed(talk, from, to, number), 1) >> 16;
    size_t most = random % 8 < 5 ? 256 : random % 8 < 7 ? 20000 : talk->longest;
    return (size_t)((random >> 8) % ((most < talk->longest ? most : talk->longest) + 1));
}

UNUSED static bool talk_killed(const struct talk *talk, unsigned other)
{
    return atomic_load(&talk->board->killed_at) != 0 && atomic_load(&talk->board->victim) == other;
}

/* Begins whatever can begin. What began with a peer after its end would be another matter: datagrams find out, and give it time to start. */
UNUSED static void talk_start(struct talk *talk, bool sends_too)
{
    for (unsigned other = 0; other < talk->members; other++) {
        if (other == talk->self || talk_killed(talk, other))
            continue;
        struct talk_op *receive = &talk->receives[other][talk->posted[other] % WINDOW];
        if (!receive->busy) {
            ssize_t result = fi_trecv(talk->node->ep, receive->buffer, talk->longest, NULL, talk->addresses[other], 1,
                                      0, &receive->context);
            CHECK(result == 0 || result == -FI_EAGAIN, "fi_trecv: %zd", result);
            if (result == 0) {
                receive->busy = true, receive->number = talk->posted[other]++;
                receive->length = talk_length(talk, other, talk->self, receive->number);
                talk->outstanding[other]++;
            }
        }
        struct talk_op *send = &talk->sends[other][talk->sent[other] % WINDOW];
        if (sends_too && !send->busy) {
            uint64_t number = talk->sent[other];
            send->length = talk_length(talk, talk->self, other, number);
            words_fill(send->buffer, send->length, talk_seed(talk, talk->self, other, number));
            ssize_t result = fi_tsend(talk->node->ep, send->buffer, send->length, NULL, talk->addresses[other], 1,
                                      &send->context);
            CHECK(result == 0 || result == -FI_EAGAIN, "fi_tsend: %zd", result);
            if (result == 0) {
                send->busy = true, send->number = number;
                talk->sent[other]++, talk->outstanding[other]++;
            }
        }
    }
}

UNUSED static void talk_failed(struct talk *talk)
{
    struct fi_cq_err_entry error = {0};
    RETURNS(1, fi_cq_readerr(talk->node->cq, &error, 0));
    struct talk_op *op = error.op_context;
    unsigned other = op->other;
    CHECK(talk_killed(talk, other), "%s %" PRIu64 " of member %u failed, which lives: %s (%s)", op->sends ? "message" : "receive",
          op->number, other, fi_strerror(error.err),
          fi_cq_strerror(talk->node->cq, error.prov_errno, error.err_data, NULL, 0));
    CHECK(op->busy, "an operation ended twice");
    op->busy = false;
    talk->outstanding[other]--;
    talk->error[other] = error.err;
    atomic_fetch_add(&talk->board->errors[talk->self], 1);
}

/*
 * Which receive a message got says its place in the order, which its completion does not: a long one may end after short ones
 * behind it. Of one that was killed, long ones may be missing that were announced and not fetched in time.
 */
UNUSED static void check_received(const struct talk *talk, const struct talk_op *op, size_t length)
{
    unsigned from = op->other, to = talk->self;
    uint64_t number = op->number, last = number + (talk_killed(talk, from) ? 1000 : 0);
    while (number < last && (talk_length(talk, from, to, number) != length ||
                             !words_match(op->buffer, length, talk_seed(talk, from, to, number))))
        number++;
    size_t expected = talk_length(talk, from, to, number);
    CHECK(length == expected, "message %" PRIu64 " of member %u has %zu bytes instead of %zu", op->number, from, length,
          expected);
    CHECK(words_match(op->buffer, length, talk_seed(talk, from, to, number)),
          "message %" PRIu64 " of member %u has wrong bytes", op->number, from);
}

/* Takes a completion, if there is one. */
UNUSED static bool talk_take(struct talk *talk)
{
    struct fi_cq_tagged_entry entry;
    ssize_t result = fi_cq_read(talk->node->cq, &entry, 1);
    if (result == -FI_EAVAIL) {
        talk_failed(talk);
        return true;
    }
    if (result == -FI_EAGAIN)
        return false;
    RETURNS(1, result);
    struct talk_op *op = entry.op_context;
    CHECK(op->busy, "an operation ended twice");
    op->busy = false;
    talk->outstanding[op->other]--;
    if (op->sends) {
        talk->sends_done[op->other]++;
        return true;
    }
    check_received(talk, op, entry.len);
    talk->received[op->other]++;
    atomic_fetch_add(&talk->board->received[talk->self], 1);
    return true;
}

UNUSED static void talk_for(struct talk *talk, double seconds)
{
    double limit = now_seconds() + seconds;
    do {
        talk_start(talk, true);
        while (talk_take(talk))
            ;
    } while (now_seconds() < limit);
}

/* Nothing new begins, and everything that was sent among those that live arrives. */
UNUSED static void talk_end(struct talk *talk)
{
    double limit = now_seconds() + WAIT_SECONDS;
    for (unsigned other = 0; other < talk->members; other++)
        atomic_store(&talk->board->sent[talk->self][other], (int64_t)talk->sent[other] + 1);
    for (unsigned other = 0; other < talk->members; other++) {
        if (other == talk->self || talk_killed(talk, other))
            continue;
        for (;;) {
            int64_t all = atomic_load(&talk->board->sent[other][talk->self]);
            if (all > 0 && (uint64_t)all - 1 == talk->received[other] && talk->sends_done[other] == talk->sent[other])
                break;
            talk_start(talk, false);
            talk_take(talk);
            CHECK(now_seconds() < limit,
                  "of member %u %" PRIu64 " of %" PRId64 " messages arrived, of %" PRIu64 " to it %" PRIu64 " ended", other,
                  talk->received[other], all - 1, talk->sent[other], talk->sends_done[other]);
        }
    }
}

UNUSED static void talk_report(struct talk *talk, const char *counters)
{
    atomic_store(&talk->board->links[talk->self], counter_in(counters, "links"));
    atomic_store(&talk->board->full[talk->self], counter_in(counters, "local_full"));
    atomic_store(&talk->board->pulled[talk->self], counter_in(counters, "local_pulled_bytes"));
    for (unsigned other = 0; other < talk->members; other++)
        for (unsigned i = 0; i < WINDOW; i++) {
            free(talk->sends[other][i].buffer);
            free(talk->receives[other][i].buffer);
        }
}

/* A process that ends when its parent does, however that ends. */
UNUSED static pid_t fork_member(void)
{
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "%s", strerror(errno));
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

/* None of these children has ended yet. */
UNUSED static void all_live(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int status;
        CHECK(waitpid(pids[i], &status, WNOHANG) == 0, "member %u ended with status 0x%x", i, (unsigned)status);
    }
}

/* The verdict of a child. */
UNUSED static void passed(pid_t pid, const char *what)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED)
        _exit(STATUS_SKIPPED);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s ended with status 0x%x", what, (unsigned)status);
}

#endif
