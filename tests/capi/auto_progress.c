/*
 * What needs this process's progress happens while its application computes or sleeps, over and over, at every
 * threading level: with FI_PROGRESS_AUTO at once, with FI_PROGRESS_MANUAL once the application has been away for a
 * while. An idle thread costs nothing; it takes no signal, has a name, and is gone with the domain, at the end of the
 * process, and in a forked child. With FI_RDGRAM_PROGRESS=manual there is none.
 */
#include "harness.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>

enum { ROUNDS = 20, ROUNDS_AWAY = 8, LARGE = 4 << 20, IDLE_MS = 1000 };

static struct node node;
static struct peer peer;
static bool open_before[256];
static enum fi_progress kind_of_progress = FI_PROGRESS_AUTO;

static void note_descriptors(void)
{
    for (int fd = 0; fd < 256; fd++)
        open_before[fd] = fcntl(fd, F_GETFD) >= 0;
}

static void open_with_thread(enum fi_threading threading)
{
    open_node(&node, &(struct wish){.threading = threading, .data_progress = kind_of_progress});
    CHECK(node.info->domain_attr->data_progress == kind_of_progress, "another kind of progress was granted");
}

/* Threads of this process by the name of the provider's own. */
static unsigned own_threads(uint64_t *blocked)
{
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL, "%s", strerror(errno));
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[256];
        bool ours = false;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/status", task->d_name);
        FILE *status = task->d_name[0] != '.' ? fopen(path, "re") : NULL;
        if (status == NULL)
            continue;
        while (fgets(line, sizeof line, status) != NULL) {
            ours |= strcmp(line, "Name:\trdgram-progress\n") == 0;
            if (ours)
                sscanf(line, "SigBlk: %" SCNx64, blocked);
        }
        count += ours;
        fclose(status);
    }
    closedir(tasks);
    return count;
}

/* A thread gives itself its name when it first runs, and vanishes from the list a moment after it is joined. */
static void expect_own_threads(unsigned expected, uint64_t *blocked, const char *when)
{
    unsigned count;
    double limit = now_seconds() + WAIT_SECONDS;
    while ((count = own_threads(blocked)) != expected)
        CHECK(now_seconds() < limit, "%u threads of the provider's %s, expected %u", count, when, expected);
}

/* ---- two processes: the receiver makes no call of libfabric's until the sender is done ---- */

static void send_to_silent(bool large)
{
    static uint8_t out[LARGE];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    size_t length = large ? LARGE : 64;
    uint64_t token;
    hear(&peer, &token, sizeof token);
    pattern_fill(out, length, token);
    struct iovec iov = {.iov_base = out, .iov_len = length};
    struct fi_msg_tagged message = {.msg_iov = &iov, .iov_count = 1, .addr = peer.address, .tag = token, .context = &context};
    RETRY(&node, fi_tsendmsg(node.ep, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE));
    completion_of(&node, &context, &entry);
    tell(&peer, &token, sizeof token);
}

static void be_silent(uint64_t token, bool large)
{
    static uint8_t in[LARGE];
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    size_t length = large ? LARGE : 64;
    uint64_t answer;
    RETRY(&node, fi_trecv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, token, 0, &context));
    tell(&peer, &token, sizeof token);
    hear(&peer, &answer, sizeof answer); /* blocked in read(2): as good as computing */
    CHECK(answer == token, "out of step");
    /* No progress was made by this call: it was all done before. */
    pattern_check(in, length, token, "message to a silent process");
    completion_of(&node, &context, &entry);
}

static int between_processes(enum fi_threading threading)
{
    bool first = !start_peer(&peer);
    open_with_thread(threading);
    introduce(&peer, &node);
    for (uint64_t i = 0; i < (kind_of_progress == FI_PROGRESS_AUTO ? ROUNDS : ROUNDS_AWAY); i++) {
        bool large = i % 2 == 1, mine = (i / 2 % 2 == 0) == first;
        if (mine)
            be_silent(100 + i, large);
        else
            send_to_silent(large);
    }
    meet(&peer, &node);
    close_node(&node);
    return finish_peer(&peer);
}

/* ---- one process ---- */

static void manners(void)
{
    uint64_t blocked = 0;
    expect_own_threads(0, &blocked, "before there is a domain");
    open_with_thread(FI_THREAD_SAFE);
    expect_own_threads(1, &blocked, "with a domain");
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && signal != SIGSEGV && signal != SIGBUS && signal != SIGFPE && signal != SIGILL &&
            signal != SIGTRAP)
            CHECK(blocked >> (signal - 1) & 1, "the thread takes signal %d", signal);
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        CHECK(open_before[fd] || flags < 0 || (flags & FD_CLOEXEC), "descriptor %d stays open across exec", fd);
    }
    close_node(&node);
    expect_own_threads(0, &blocked, "after the domain was closed");
}

static void idle(void)
{
    struct rusage before, after;
    struct fi_cq_tagged_entry entry;
    open_with_thread(FI_THREAD_SAFE);
    fi_addr_t self = insert(&node, node.name);
    uint64_t word = 1, in;
    struct fi_context2 context;
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
    OK(fi_tinject(node.ep, &word, sizeof word, self, 1));
    completion_of(&node, &context, &entry);
    usleep(kind_of_progress == FI_PROGRESS_AUTO ? 50000 : 500000); /* the thread sees that nobody calls any more */
    getrusage(RUSAGE_SELF, &before);
    usleep(1000 * IDLE_MS);
    getrusage(RUSAGE_SELF, &after);
    /* The kernel's own counts, so other load on the machine does not matter. One switch is this thread's sleep. */
    long switches = after.ru_nvcsw - before.ru_nvcsw;
    CHECK(switches < 10, "%ld switches in %d idle ms", switches, IDLE_MS);
    close_node(&node);
}

static void ended_by_exit(void)
{
    open_with_thread(FI_THREAD_DOMAIN);
    exit(0);
}

/* The user may want no thread, whatever happens then. */
static void unwanted(void)
{
    uint64_t blocked;
    setenv("FI_RDGRAM_PROGRESS", "manual", 1);
    open_with_thread(FI_THREAD_DOMAIN);
    usleep(1000 * 50);
    expect_own_threads(0, &blocked, "with FI_RDGRAM_PROGRESS=manual");
    close_node(&node);
}

/* The child of a process with such a domain has no such thread; closing there ends at once, and the child may open its own. */
static void forked(void)
{
    uint64_t blocked;
    enum fi_threading threading = kind_of_progress == FI_PROGRESS_AUTO ? FI_THREAD_SAFE : FI_THREAD_DOMAIN;
    open_with_thread(threading);
    for (int round = 0; round < 5; round++) {
        int status;
        pid_t pid = fork();
        CHECK(pid >= 0, "%s", strerror(errno));
        if (pid == 0) {
            begin("child");
            expect_own_threads(0, &blocked, "in the child");
            if (round % 2 == 0)
                close_node(&node);
            open_with_thread(threading);
            expect_own_threads(1, &blocked, "with a domain of the child's own");
            if (round == 0)
                close_node(&node);
            exit(0);
        }
        CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
    }
    expect_own_threads(1, &blocked, "in the parent");
    close_node(&node);
}

/* Run one part in a process of its own, so that each begins with nothing opened. */
static void part(const char *what, void (*body)(void))
{
    int status;
    double start = now_seconds();
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        begin(what);
        body();
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED)
        _exit(STATUS_SKIPPED);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status 0x%x", what, (unsigned)status);
    CHECK(now_seconds() - start < 30, "%s: took %.1f s", what, now_seconds() - start);
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own thread");
    note_descriptors();
    setenv("FI_PROVIDER", "rdgram", 1);
    enum fi_threading levels[] = {FI_THREAD_SAFE, FI_THREAD_DOMAIN, FI_THREAD_COMPLETION};
    for (int kind = 0; kind < 2; kind++) {
        kind_of_progress = kind == 0 ? FI_PROGRESS_AUTO : FI_PROGRESS_MANUAL;
        part("manners", manners);
        part("idle", idle);
        part("exit", ended_by_exit);
        part("fork", forked);
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
            fflush(NULL);
            pid_t pid = fork();
            int status;
            CHECK(pid >= 0, "%s", strerror(errno));
            if (pid == 0)
                exit(between_processes(levels[i]));
            CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "progress %d, threading %d: status 0x%x",
                  (int)kind_of_progress, (int)levels[i], (unsigned)status);
        }
    }
    part("unwanted", unwanted);
    return 0;
}
