/*
 * kill -9 of one of several processes that exchange messages through shared memory, at random moments: while everybody
 * talks, while its queue is full, while it is only just met. Whatever the survivors wait for from it, or have for it,
 * ends soon and with an error; what they send each other goes on, and none of it is lost.
 */
#include "local.h"

enum { MEMBERS = 3, ROUNDS_DEFAULT = 24, MODES = 4 };

/* How the victim spends its last moments. */
enum mode {
    TALKING,    /* exchanges messages like all others */
    FULL,       /* makes no progress, so that its queue fills up */
    ANNOUNCED,  /* makes no progress; all that is for it is long, and waits to be asked for */
    EARLY,      /* may not even be met yet */
};
static const char *const mode_names[MODES] = {"talking", "full", "announced", "early"};

/*
 * Until every operation has ended; the product's aim is 0.1 s. Where peers have not met, datagrams have to find out, and
 * ask only once a second.
 */
static const double limits[MODES] = {1, 1, 1, 20};
enum { FLOOD = 3000, LONG = MESSAGE_MAX, LONG_COUNT = 8 };

static struct node node;
static struct talk talk;

/* More than the queue holds, or long messages, to a member that takes nothing. */
struct flood {
    struct talk_op ops[FLOOD];
    unsigned count;
};

static void flood(struct flood *flood, enum mode mode, unsigned victim)
{
    static uint8_t payload[LONG];
    unsigned count = mode == FULL ? FLOOD : LONG_COUNT;
    for (flood->count = 0; flood->count < count; flood->count++) {
        struct talk_op *op = &flood->ops[flood->count];
        *op = (struct talk_op){.sends = true, .other = victim, .busy = true, .number = flood->count};
        ssize_t result = fi_tsend(node.ep, payload, mode == FULL ? 8 : LONG, NULL, talk.addresses[victim], 2,
                                  &op->context);
        if (result == -FI_EAGAIN)
            break;
        OK(result);
        talk.outstanding[victim]++;
    }
}

static void survive(enum mode mode, unsigned victim, double warm)
{
    static struct flood flooded;
    talk_for(&talk, warm);
    if (mode == FULL || mode == ANNOUNCED) {
        reach(talk.board, 1, MEMBERS, &node);
        flood(&flooded, mode, victim);
    }
    atomic_fetch_add(&talk.board->arrived[2], 1);
    double limit = now_seconds() + WAIT_SECONDS;
    while (!talk_killed(&talk, victim) || talk.outstanding[victim] > 0) {
        talk_start(&talk, true);
        talk_take(&talk);
        CHECK(now_seconds() < limit, "%u operations of the dead have not ended", talk.outstanding[victim]);
    }
    atomic_store(&talk.board->ended_ns[talk.self], now_ns() - atomic_load(&talk.board->killed_at));
    CHECK(talk.error[victim] == 0 || talk.error[victim] == FI_ECONNREFUSED, "error %s", fi_strerror(talk.error[victim]));
    uint64_t before[MEMBERS];
    memcpy(before, talk.received, sizeof before);
    for (double end = now_seconds() + WAIT_SECONDS;;) {
        bool all = true;
        talk_for(&talk, 0.005);
        for (unsigned other = 0; other < MEMBERS; other++)
            all &= other == talk.self || other == victim || talk.received[other] >= before[other] + 20;
        if (all)
            break;
        CHECK(now_seconds() < end, "the survivors do not go on");
    }
    /* None stops before all have seen enough. */
    atomic_fetch_add(&talk.board->arrived[3], 1);
    while (atomic_load(&talk.board->arrived[3]) < MEMBERS - 1)
        talk_for(&talk, 0.001);
    talk_end(&talk);
    reach(talk.board, 4, MEMBERS - 1, &node);
}

static void member(struct board *board, unsigned self, unsigned victim, enum mode mode, uint64_t seed, double warm)
{
    static const char *const roles[] = {"member 0", "member 1", "member 2"};
    begin(roles[self]);
    want_counters();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
    talk_begin(&talk, &node, board, self, MEMBERS, seed, MESSAGE_MAX);
    if (self != victim) {
        survive(mode, victim, warm);
        talk_report(&talk, close_and_count(&node));
        exit(0);
    }
    talk_for(&talk, warm);
    if (mode == FULL || mode == ANNOUNCED) {
        reach(board, 1, MEMBERS, &node);
        for (;;)
            pause();
    }
    for (;;)
        talk_for(&talk, 1);
}

/* Returns the longest time that a survivor had operations of the dead, and adds those that failed. */
static double round_of(enum mode mode, uint64_t seed, uint64_t *random, uint64_t *errors)
{
    struct board *board = new_board();
    pid_t pids[MEMBERS];
    unsigned victim = (unsigned)(random_next(random) % MEMBERS);
    double warm = mode == EARLY ? 0 : 0.05, worst = 0;
    atomic_store(&board->victim, victim);
    for (unsigned self = 0; self < MEMBERS; self++) {
        pids[self] = fork_member();
        if (pids[self] == 0)
            member(board, self, victim, mode, seed, warm);
    }
    double limit = now_seconds() + WAIT_SECONDS;
    while (atomic_load(&board->arrived[2]) < MEMBERS - 1) {
        usleep(100);
        all_live(pids, MEMBERS);
        CHECK(now_seconds() < limit, "round %" PRIu64 ", %s: the members are not ready", seed, mode_names[mode]);
    }
    usleep((useconds_t)(random_next(random) % (mode == EARLY ? 3000 : 20000)));
    atomic_store(&board->killed_at, now_ns());
    CHECK(kill(pids[victim], SIGKILL) == 0, "%s", strerror(errno));
    for (unsigned self = 0; self < MEMBERS; self++) {
        if (self != victim)
            passed(pids[self], "a survivor");
    }
    CHECK(waitpid(pids[victim], NULL, 0) == pids[victim], "%s", strerror(errno));
    for (unsigned self = 0; self < MEMBERS; self++) {
        if (self == victim)
            continue;
        double took = (double)atomic_load(&board->ended_ns[self]) / 1e9;
        *errors += atomic_load(&board->errors[self]);
        CHECK(mode == EARLY || atomic_load(&board->links[self]) >= MEMBERS - 1, "%" PRIu64 " links",
              atomic_load(&board->links[self]));
        CHECK(mode != FULL || atomic_load(&board->full[self]) > 0, "the queue of the victim was never full");
        worst = took > worst ? took : worst;
    }
    CHECK(worst < limits[mode], "round %" PRIu64 ", %s: it took %.3f s until everything had ended", seed,
          mode_names[mode], worst);
    munmap(board, sizeof *board);
    return worst;
}

int main(void)
{
    const char *wanted = getenv("RDGRAM_TEST_ROUNDS"), *seed = getenv("RDGRAM_TEST_SEED");
    unsigned rounds = wanted != NULL ? (unsigned)atoi(wanted) : ROUNDS_DEFAULT;
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    double worst[MODES] = {0}, sum[MODES] = {0};
    uint64_t errors[MODES] = {0};
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    for (unsigned i = 0; i < rounds; i++) {
        enum mode mode = i % MODES;
        uint64_t random = first * 31 + i + 1;
        alarm(PROGRAM_SECONDS);
        double took = round_of(mode, first + i, &random, &errors[mode]);
        sum[mode] += took;
        worst[mode] = took > worst[mode] ? took : worst[mode];
    }
    /* One that just had received all it waited for is not told; most have something left. */
    for (unsigned mode = 0; mode < MODES && mode < rounds; mode++)
        CHECK(errors[mode] > 0, "%s: nothing failed in any round", mode_names[mode]);
    printf("%u kills; ms until the last operation had ended, mean and worst:", rounds);
    for (unsigned mode = 0; mode < MODES; mode++)
        printf(" %s %.1f %.1f", mode_names[mode], 1e3 * sum[mode] / ((rounds + MODES - 1 - mode) / MODES),
               1e3 * worst[mode]);
    printf("\n");
    return 0;
}
