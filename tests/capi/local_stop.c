/*
 * A peer that is stopped (SIGSTOP) in the middle of traffic through shared memory and goes on later: nobody's operation
 * fails, no byte is wrong, and the others do not wait for it among themselves.
 * RDGRAM_STOP_SECONDS: how long it is stopped each time.
 */
#include "local.h"

enum { MEMBERS = 3, STOPS = 2, GOES_ON = 50 };

static struct node node;
static struct talk talk;

static void member(struct board *board, unsigned self, uint64_t seed, double seconds)
{
    static const char *const roles[] = {"member 0", "member 1", "member 2"};
    begin(roles[self]);
    alarm(PROGRAM_SECONDS + STOPS * (unsigned)seconds);
    want_counters();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
    talk_begin(&talk, &node, board, self, MEMBERS, seed, MESSAGE_MAX);
    while (!atomic_load(&board->stop))
        talk_for(&talk, 0.01);
    /* Until all have seen that. */
    atomic_fetch_add(&board->arrived[1], 1);
    while (atomic_load(&board->arrived[1]) < MEMBERS)
        talk_for(&talk, 0.001);
    talk_end(&talk);
    reach(board, 2, MEMBERS, &node);
    talk_report(&talk, close_and_count(&node));
    exit(0);
}

/* Every member of these has received so many more messages. */
static void goes_on(struct board *board, const pid_t *pids, unsigned without, const char *when)
{
    uint64_t before[MEMBERS];
    double limit = now_seconds() + WAIT_SECONDS;
    for (unsigned self = 0; self < MEMBERS; self++)
        before[self] = atomic_load(&board->received[self]);
    for (unsigned self = 0; self < MEMBERS; self++) {
        while (self != without && atomic_load(&board->received[self]) < before[self] + GOES_ON) {
            usleep(1000);
            all_live(pids, MEMBERS);
            CHECK(now_seconds() < limit, "%s: member %u receives nothing more", when, self);
        }
    }
}

int main(void)
{
    const char *wanted = getenv("RDGRAM_STOP_SECONDS");
    double seconds = wanted != NULL ? atof(wanted) : 2;
    uint64_t seed = (uint64_t)time(NULL), random = seed * 31 + 7;
    pid_t pids[MEMBERS];
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    alarm(PROGRAM_SECONDS + STOPS * (unsigned)seconds);
    struct board *board = new_board();
    for (unsigned self = 0; self < MEMBERS; self++) {
        pids[self] = fork_member();
        if (pids[self] == 0)
            member(board, self, seed, seconds);
    }
    goes_on(board, pids, MEMBERS, "at first");
    for (unsigned i = 0; i < STOPS; i++) {
        unsigned stopped = (unsigned)(random_next(&random) % MEMBERS);
        usleep((useconds_t)(random_next(&random) % 50000));
        CHECK(kill(pids[stopped], SIGSTOP) == 0, "%s", strerror(errno));
        /* What it had sent is taken, and its peers have nothing more to say to it: the others talk all the same. */
        usleep(100000);
        goes_on(board, pids, stopped, "while one is stopped");
        usleep((useconds_t)(1e6 * seconds));
        CHECK(kill(pids[stopped], SIGCONT) == 0, "%s", strerror(errno));
        goes_on(board, pids, MEMBERS, "after it goes on");
    }
    atomic_store(&board->stop, true);
    for (unsigned self = 0; self < MEMBERS; self++)
        passed(pids[self], "a member");
    uint64_t messages = 0;
    for (unsigned self = 0; self < MEMBERS; self++) {
        CHECK(atomic_load(&board->links[self]) >= MEMBERS - 1, "%" PRIu64 " links", atomic_load(&board->links[self]));
        messages += atomic_load(&board->received[self]);
    }
    printf("%" PRIu64 " messages, stopped %d times for %.0f s\n", messages, STOPS, seconds);
    return 0;
}
