/*
 * A long run of random mixed traffic, among workers on two hosts (tests/net/hosts.sh): messages, one-sided operations and
 * atomics by memory and by datagrams, while datagrams are lost, workers are stopped and go on, are killed, leave, and
 * start again. All bytes, the order and the number of messages are checked; nothing may stay pending; memory and descriptors
 * of those that live must not grow.
 *
 *   soak SECONDS SEED      in the bridge's namespace; the seed draws traffic and faults, not the moments at which they meet
 */
#include "worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>

enum { TICK_US = 5000, SAY_SECONDS = 10, END_SECONDS = 150, DESCRIPTORS_MORE = 4, SAMPLES_MAX = 1 << 14, ELDERS = HOSTS };
static const uint64_t RSS_MORE_KIB = 8 << 10;

enum fault { LOSS, STOP, KILL, LEAVE, FAULTS };
static const char *const fault_names[FAULTS] = {"times datagrams were lost", "workers stopped", "workers killed", "workers left"};

struct child {
    pid_t pid;
    unsigned incarnation;
    double starts, goes_on; /* 0: neither */
};

static struct soak_board *board;
static struct child children[SLOTS];
static uint64_t dice_state, faults[FAULTS], dropped;
static double loss_ends;

/* What the workers that live as long as the run took, each second. */
struct sample {
    uint64_t rss_kib, descriptors;
};
static struct sample samples[ELDERS][SAMPLES_MAX];
static unsigned sample_count;

static unsigned dice(unsigned bound) { return (unsigned)((random_next(&dice_state) >> 20) % bound); }

/* ---- hosts ---- */

static const char *host_of(unsigned slot)
{
    const char *name = getenv(slot % HOSTS == 0 ? "RDGRAM_NET_A" : "RDGRAM_NET_B");
    CHECK(name != NULL, "to be run by tests/net/hosts.sh");
    return name;
}

static void enter_host(unsigned slot)
{
    char path[256];
    snprintf(path, sizeof path, "/var/run/netns/%s", host_of(slot));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "%s: %s", path, strerror(errno));
    close(fd);
}

static void nft(unsigned host, const char *rules)
{
    char command[512];
    snprintf(command, sizeof command, "ip netns exec %s nft '%s'", host_of(host), rules);
    CHECK(system(command) == 0, "%s", command);
}

static void lose(unsigned per_mille)
{
    char rule[256];
    snprintf(rule, sizeof rule, "add rule inet soak arriving iif eth0 meta l4proto udp numgen random mod 1000 < %u counter drop",
             per_mille);
    for (unsigned host = 0; host < HOSTS; host++) {
        nft(host, "add table inet soak; add chain inet soak arriving { type filter hook input priority 0; policy accept; }");
        nft(host, rule);
    }
}

static void lose_nothing(void)
{
    for (unsigned host = 0; host < HOSTS; host++) {
        char command[256], line[256];
        snprintf(command, sizeof command, "ip netns exec %s nft list table inet soak", host_of(host));
        FILE *list = popen(command, "r");
        CHECK(list != NULL, "%s", strerror(errno));
        while (fgets(line, sizeof line, list) != NULL) {
            const char *packets = strstr(line, "counter packets ");
            if (packets != NULL)
                dropped += strtoull(packets + strlen("counter packets "), NULL, 10);
        }
        CHECK(pclose(list) == 0, "%s", command);
        nft(host, "delete table inet soak");
    }
    loss_ends = 0;
}

/* ---- workers ---- */

static enum life life_of(unsigned slot) { return status_life(atomic_load(&board->status[slot])); }

static void start(unsigned slot)
{
    struct child *child = &children[slot];
    unsigned incarnation = ++child->incarnation;
    CHECK(incarnation < INCARNATIONS, "too many incarnations");
    /* Half of them come back under the name they had. */
    if (dice(2) == 0)
        atomic_store(&board->port[slot], 0);
    atomic_store(&board->status[slot], status_of(incarnation, STARTING));
    child->starts = child->goes_on = 0;
    fflush(NULL);
    child->pid = fork_member();
    if (child->pid == 0) {
        enter_host(slot);
        worker(board, slot, incarnation);
    }
}

static void end_all(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (children[slot].pid != 0) {
            kill(children[slot].pid, SIGKILL);
            waitpid(children[slot].pid, NULL, 0);
        }
    }
}

/* The others say how it is with them, too. */
static void fail_run(void) __attribute__((noreturn));
static void fail_run(void)
{
    atomic_store(&board->failed, true);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (children[slot].pid != 0)
            kill(children[slot].pid, SIGCONT);
    sleep(8);
    end_all();
    FAIL("the run of seed %" PRIu64 " failed", board->seed);
}

static void reap(double now)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        struct child *child = &children[slot];
        int status;
        if (child->pid == 0 || waitpid(child->pid, &status, WNOHANG) != child->pid)
            continue;
        child->pid = 0, child->goes_on = 0;
        enum life life = life_of(slot);
        /* One that was leaving may have been faster than the signal. */
        bool killed = life == DYING && (WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        bool left = life == LEAVING && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (!killed && !left) {
            fprintf(stderr, "worker %u.%u, which was %s, ended with status 0x%x\n", slot, child->incarnation, life_names[life],
                    (unsigned)status);
            fail_run();
        }
        if (left)
            atomic_store(&board->status[slot], status_of(child->incarnation, GONE));
        child->starts = now + (dice(3) == 0 ? 0 : dice(1500) / 1e3);
    }
}

/* ---- faults ---- */

static void stop_worker(unsigned slot, double now)
{
    struct child *child = &children[slot];
    if (child->pid == 0 || child->goes_on != 0)
        return;
    CHECK(kill(child->pid, SIGSTOP) == 0, "%s", strerror(errno));
    child->goes_on = now + 0.1 + dice(2900) / 1e3;
    faults[STOP]++;
}

static void kill_worker(unsigned slot)
{
    struct child *child = &children[slot];
    if (child->pid == 0)
        return;
    atomic_store(&board->killed[slot][child->incarnation % GENERATIONS], child->incarnation);
    atomic_store(&board->status[slot], status_of(child->incarnation, DYING));
    CHECK(kill(child->pid, SIGKILL) == 0, "%s", strerror(errno));
    faults[KILL]++;
}

static void let_leave(unsigned slot)
{
    uint64_t up = status_of(children[slot].incarnation, UP);
    if (atomic_compare_exchange_strong(&board->status[slot], &up, status_of(children[slot].incarnation, LEAVING)))
        faults[LEAVE]++;
}

/* Each kind comes once before chance decides: a short run has all of them. */
static enum fault draw_fault(void)
{
    unsigned chance = dice(100);
    for (unsigned kind = 0; kind < FAULTS; kind++)
        if (faults[kind] == 0)
            return (enum fault)kind;
    return chance < 35 ? STOP : chance < 60 ? LOSS : chance < 80 ? KILL : LEAVE;
}

static void begin_fault(double now)
{
    unsigned slot = dice(SLOTS), mortal = ELDERS + dice(SLOTS - ELDERS);
    switch (draw_fault()) {
    case STOP:
        stop_worker(slot, now);
        break;
    case LOSS:
        if (loss_ends == 0) {
            lose(1 + dice(50));
            loss_ends = now + 0.5 + dice(4000) / 1e3;
            faults[LOSS]++;
        }
        break;
    case KILL:
        kill_worker(mortal);
        break;
    default:
        let_leave(mortal);
        break;
    }
}

static void end_faults(double now)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        struct child *child = &children[slot];
        if (child->pid != 0 && child->goes_on != 0 && now >= child->goes_on) {
            CHECK(kill(child->pid, SIGCONT) == 0, "%s", strerror(errno));
            child->goes_on = 0;
        }
        if (child->pid == 0 && child->starts != 0 && now >= child->starts)
            start(slot);
    }
    if (loss_ends != 0 && now >= loss_ends)
        lose_nothing();
}

/* ---- what is watched ---- */

static void take_sample(void)
{
    if (sample_count == SAMPLES_MAX)
        return;
    for (unsigned slot = 0; slot < ELDERS; slot++) {
        struct sample *sample = &samples[slot][sample_count];
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/status", children[slot].pid);
        FILE *status = fopen(path, "r");
        CHECK(status != NULL, "%s: %s", path, strerror(errno));
        while (fgets(line, sizeof line, status) != NULL)
            sscanf(line, "VmRSS: %" SCNu64, &sample->rss_kib);
        fclose(status);
        snprintf(path, sizeof path, "/proc/%d/fd", children[slot].pid);
        DIR *descriptors = opendir(path);
        CHECK(descriptors != NULL, "%s: %s", path, strerror(errno));
        while (readdir(descriptors) != NULL)
            sample->descriptors++;
        closedir(descriptors);
    }
    sample_count++;
}

static uint64_t counted(enum count what) { return atomic_load(&board->counts[what]); }

static void say(double seconds)
{
    const struct sample *last = &samples[0][sample_count - 1];
    printf("%4.0f s: %" PRIu64 " messages, %" PRIu64 " one-sided operations, %" PRIu64 " MB; lost %" PRIu64 ", stopped %" PRIu64
           ", killed %" PRIu64 ", left %" PRIu64 "; %" PRIu64 " MiB, %" PRIu64 " descriptors\n",
           seconds, counted(RECEIVED), counted(WRITTEN) + counted(READ) + counted(ADDED),
           (counted(RECEIVED_BYTES) + counted(MOVED_BYTES)) / 1000000, faults[LOSS], faults[STOP], faults[KILL], faults[LEAVE],
           last->rss_kib >> 10, last->descriptors);
}

/* Largest of a part of the samples. */
static struct sample largest(unsigned slot, unsigned from, unsigned to)
{
    struct sample most = {0};
    for (unsigned i = from; i < to; i++) {
        const struct sample *sample = &samples[slot][i];
        most.rss_kib = sample->rss_kib > most.rss_kib ? sample->rss_kib : most.rss_kib;
        most.descriptors = sample->descriptors > most.descriptors ? sample->descriptors : most.descriptors;
    }
    return most;
}

/* The first fifth warms up; then the last third is compared with the first. */
static void check_growth(void)
{
    unsigned warm = sample_count / 5, third = (sample_count - warm) / 3;
    CHECK(third >= 3, "%u samples are too few", sample_count);
    for (unsigned slot = 0; slot < ELDERS; slot++) {
        struct sample first = largest(slot, warm, warm + third), last = largest(slot, sample_count - third, sample_count);
        printf("%-40s %" PRIu64 " KiB, at first %" PRIu64 "; %" PRIu64 " descriptors, at first %" PRIu64 "\n",
               slot == 0 ? "worker 0 at last" : "worker 1 at last", last.rss_kib, first.rss_kib, last.descriptors, first.descriptors);
        CHECK(last.rss_kib <= first.rss_kib + first.rss_kib / 10 + RSS_MORE_KIB, "seed %" PRIu64 ": the memory of worker %u grows",
              board->seed, slot);
        CHECK(last.descriptors <= first.descriptors + DESCRIPTORS_MORE, "seed %" PRIu64 ": the descriptors of worker %u grow",
              board->seed, slot);
    }
}

static void report(double seconds)
{
    printf("%-40s %.0f, seed %" PRIu64 "\n", "seconds", seconds, board->seed);
    for (unsigned i = 0; i < COUNTS; i++)
        printf("%-40s %" PRIu64 "\n", count_names[i], counted(i));
    for (unsigned i = 0; i < FAULTS; i++)
        printf("%-40s %" PRIu64 "\n", fault_names[i], faults[i]);
    printf("%-40s %" PRIu64 "\n", "packets lost on purpose", dropped);
    check_growth();
    /* A run in which something never happened says nothing of it. */
    static const enum count needed[] = {SENT,   INJECTED, RECEIVED, WRITTEN, READ,      ADDED,
                                        PEEKED, MULTI,    CANCELLED, MET,    DATAGRAMS, LINK_ITEMS};
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
        CHECK(counted(needed[i]) > 0, "seed %" PRIu64 ": no %s", board->seed, count_names[needed[i]]);
    for (unsigned i = 0; i < FAULTS; i++)
        CHECK(faults[i] > 0, "seed %" PRIu64 ": no %s", board->seed, fault_names[i]);
    CHECK(dropped > 0, "seed %" PRIu64 ": nothing was lost", board->seed);
}

/* ---- the run ---- */

static void run_for(double seconds)
{
    double begun = now_seconds(), end = begun + seconds, next_fault = begun + 2, next_sample = begun + 1, next_line = begun + SAY_SECONDS;
    for (double now = begun; now < end; now = now_seconds()) {
        reap(now);
        end_faults(now);
        if (now >= next_fault) {
            begin_fault(now);
            next_fault = now + 0.05 + dice(1200) / 1e3;
        }
        if (now >= next_sample) {
            take_sample();
            next_sample += 1;
        }
        if (now >= next_line) {
            say(now - begun);
            next_line += SAY_SECONDS;
        }
        usleep(TICK_US);
    }
}

/* No fault goes on, and all leave: what was sent has come. */
static void run_out(void)
{
    double limit = now_seconds() + END_SECONDS;
    for (unsigned slot = 0; slot < SLOTS; slot++)
        children[slot].goes_on = children[slot].goes_on == 0 ? 0 : 1;
    for (unsigned slot = 0; slot < SLOTS; slot++)
        children[slot].starts = 0;
    if (loss_ends != 0)
        lose_nothing();
    for (unsigned living = SLOTS; living > 0; usleep(TICK_US)) {
        double now = now_seconds();
        reap(now);
        living = 0;
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            children[slot].starts = 0;
            living += children[slot].pid != 0;
            uint64_t up = status_of(children[slot].incarnation, UP);
            atomic_compare_exchange_strong(&board->status[slot], &up, status_of(children[slot].incarnation, LEAVING));
        }
        end_faults(now);
        if (now > limit) {
            fprintf(stderr, "%u workers do not end\n", living);
            fail_run();
        }
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3, "usage: soak SECONDS SEED");
    double seconds = atof(argv[1]), begun = now_seconds();
    setvbuf(stdout, NULL, _IOLBF, 0);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED, "%s", strerror(errno));
    board->seed = strtoull(argv[2], NULL, 10);
    dice_state = word_at(board->seed, 77) | 1;
    for (unsigned slot = 0; slot < SLOTS; slot++)
        start(slot);
    run_for(seconds);
    run_out();
    report(now_seconds() - begun);
    printf("seed %" PRIu64 ": %" PRIu64 " messages and %" PRIu64 " one-sided operations in %.0f s, %" PRIu64 " faults\n", board->seed,
           counted(RECEIVED), counted(WRITTEN) + counted(READ) + counted(ADDED), seconds,
           faults[LOSS] + faults[STOP] + faults[KILL] + faults[LEAVE]);
    return 0;
}
