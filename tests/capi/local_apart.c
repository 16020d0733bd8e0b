/*
 * Neighbours that something stands between: one belongs to another user, or they are in different process namespaces, as
 * containers that share the host's network are. Of another user no memory is shared. A process that cannot be seen from
 * here is talked to through memory, but its own is not read; when it is killed, that is noticed all the same.
 */
#include "local.h"
#include <sched.h>
#include <sys/syscall.h>

enum { MEMBERS = 2, STRANGER = 65534 };

/* Seconds until every operation has ended with a process that was killed; the product's aim is 0.1 s. */
static const double noticed_after = 1;

/* What stands between the two. */
struct scenario {
    const char *name;
    bool other_user, apart[MEMBERS];
    /* Who is killed. */
    enum { NOBODY, FIRST, SECOND } victim;
    /* Memory is shared; and who of the two reads the other's, if the system lets processes of one user do so. */
    bool shares, pulls[MEMBERS];
};

static const struct scenario scenarios[] = {
    {.name = "nothing", .shares = true, .pulls = {true, true}},
    {.name = "another user", .other_user = true},
    {.name = "a namespace inside of this one", .apart = {false, true}, .shares = true, .pulls = {true, false}},
    {.name = "two namespaces", .apart = {true, true}, .shares = true},
    {.name = "two namespaces, one is killed", .apart = {true, true}, .shares = true, .victim = SECOND},
    {.name = "a namespace inside of this one, the inner one is killed",
     .apart = {false, true}, .shares = true, .pulls = {true, false}, .victim = SECOND},
    {.name = "a namespace inside of this one, the outer one is killed",
     .apart = {false, true}, .shares = true, .pulls = {true, false}, .victim = FIRST},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static struct node node;
static struct talk talk;

/* Waits for everything that the dead leaves behind, and for one message that it never sends. */
static void survive(struct board *board, unsigned self, unsigned victim)
{
    static uint8_t byte;
    static struct talk_op missing = {.busy = true};
    missing.other = victim;
    RETRY(&node, fi_trecv(node.ep, &byte, 1, NULL, talk.addresses[victim], 2, 0, &missing.context));
    talk.outstanding[victim]++;
    reach(board, 1, MEMBERS, &node);
    double limit = now_seconds() + WAIT_SECONDS;
    while (!talk_killed(&talk, victim) || talk.outstanding[victim] > 0) {
        talk_start(&talk, true);
        talk_take(&talk);
        CHECK(now_seconds() < limit, "%u operations of the dead have not ended", talk.outstanding[victim]);
    }
    CHECK(talk.error[victim] == FI_ECONNREFUSED, "error %s", fi_strerror(talk.error[victim]));
    atomic_store(&board->ended_ns[self], now_ns() - atomic_load(&board->killed_at));
}

static bool is_victim(const struct scenario *scenario, unsigned self)
{
    return scenario->victim == (self == 0 ? FIRST : SECOND);
}

static void member(const struct scenario *scenario, struct board *board, unsigned self)
{
    static char text[STATISTICS_BYTES];
    static const char *const roles[] = {"member 0", "member 1"};
    begin(roles[self]);
    if (scenario->other_user && self == 1)
        CHECK(setresuid(STRANGER, STRANGER, STRANGER) == 0, "%s", strerror(errno));
    want_counters();
    struct listening listening = listen_to_stderr();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
    talk_begin(&talk, &node, board, self, MEMBERS, 1, MESSAGE_MAX);
    talk_for(&talk, 0.3);
    if (is_victim(scenario, self)) {
        reach(board, 1, MEMBERS, &node);
        for (;;)
            talk_for(&talk, 1);
    }
    if (scenario->victim != NOBODY) {
        survive(board, self, !self);
    } else {
        talk_end(&talk);
        reach(board, 1, MEMBERS, &node);
    }
    stop_listening(&listening, text, sizeof text);
    bool told = strstr(text, "it belongs to user") != NULL && strstr(text, "datagrams are used instead") != NULL;
    CHECK(!told || scenario->other_user, "%s: %s", scenario->name, text);
    atomic_store(&board->errors[self], told);
    talk_report(&talk, close_and_count(&node));
    exit(0);
}

/* A member, in a process namespace of its own or not, that ends when its parent does. */
static pid_t start_member(const struct scenario *scenario, struct board *board, unsigned self)
{
    unsigned long flags = SIGCHLD | (scenario->apart[self] ? CLONE_NEWPID : 0);
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "%s", strerror(errno));
        CHECK(!scenario->apart[self] || getpid() == 1, "this is no process namespace of its own");
        member(scenario, board, self);
    }
    return pid;
}

/* May one process of ours read another's memory here at all? */
static bool can_read_child(void)
{
    static uint64_t word = 0x1234567;
    uint64_t found = 0;
    struct iovec to = {&found, sizeof found}, from = {&word, sizeof word};
    pid_t pid = fork_member();
    if (pid == 0)
        for (;;)
            pause();
    bool can = process_vm_readv(pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof found && found == word;
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid, "%s", strerror(errno));
    return can;
}

static void try(const struct scenario *scenario, bool readable)
{
    struct board *board = new_board();
    pid_t pids[MEMBERS];
    unsigned victim = scenario->victim == FIRST ? 0 : 1;
    atomic_store(&board->victim, victim);
    for (unsigned self = 0; self < MEMBERS; self++)
        pids[self] = start_member(scenario, board, self);
    if (scenario->victim != NOBODY) {
        double limit = now_seconds() + WAIT_SECONDS;
        while (atomic_load(&board->arrived[1]) < MEMBERS) {
            usleep(100);
            all_live(pids, MEMBERS);
            CHECK(now_seconds() < limit, "%s: the members are not ready", scenario->name);
        }
        usleep(20000);
        atomic_store(&board->killed_at, now_ns());
        CHECK(kill(pids[victim], SIGKILL) == 0, "%s", strerror(errno));
    }
    for (unsigned self = 0; self < MEMBERS; self++) {
        if (is_victim(scenario, self)) {
            CHECK(waitpid(pids[self], NULL, 0) == pids[self], "%s", strerror(errno));
            continue;
        }
        passed(pids[self], scenario->name);
        uint64_t links = atomic_load(&board->links[self]), pulled = atomic_load(&board->pulled[self]);
        CHECK(links == scenario->shares, "%s: member %u has %" PRIu64 " links", scenario->name, self, links);
        CHECK((pulled > 0) == (scenario->pulls[self] && readable), "%s: member %u pulled %" PRIu64 " bytes",
              scenario->name, self, pulled);
        CHECK(atomic_load(&board->received[self]) > 100, "%s: member %u received next to nothing", scenario->name, self);
    }
    bool told = atomic_load(&board->errors[0]) + atomic_load(&board->errors[1]) > 0;
    CHECK(told || !scenario->other_user, "%s: nobody is told why memory is not shared", scenario->name);
    printf("%s: %" PRIu64 " messages", scenario->name, atomic_load(&board->received[!victim]));
    if (scenario->victim != NOBODY) {
        double took = (double)atomic_load(&board->ended_ns[!victim]) / 1e9;
        CHECK(took < noticed_after, "%s: it took %.1f s until everything had ended", scenario->name, took);
        printf(", the last operation ended after %.1f ms", 1e3 * took);
    }
    printf("\n");
    munmap(board, sizeof *board);
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    if (geteuid() != 0)
        skip("other users and process namespaces need root");
    bool readable = can_read_child();
    for (unsigned i = 0; i < SCENARIOS; i++) {
        fflush(NULL);
        try(&scenarios[i], readable);
    }
    return 0;
}
