/*
 * Memory is not shared: because one side does not want it (FI_OPT_SHARED_MEMORY_PERMITTED, FI_RDGRAM_LOCAL=off), or
 * because there is none to be had for it. Everything works by datagrams then; of the latter, which can be helped, the user
 * is told in one line, of the former nothing is said.
 */
#include "local.h"
#include <fcntl.h>
#include <rdma/fi_atomic.h>
#include <sys/resource.h>

enum { SHARED_MEMORY_PERMITTED = 11, MESSAGES = 200, LARGE = 1 << 20, DESCRIPTORS = 256 };

struct scenario {
    const char *name;
    /* In the first process: before libfabric is called, before the endpoint is enabled, when its peer is known. */
    void (*before)(void), (*disabled)(void), (*known)(void);
    /* Lines on stderr of the first process, each with these words. */
    unsigned lines;
    const char *part;
};

static struct node node;
static struct peer peer;
static int taken[DESCRIPTORS], taken_count;

static void nothing(void)
{
}

static void switch_off(void)
{
    setenv("FI_RDGRAM_LOCAL", "off", 1);
}

static void not_permitted(void)
{
    bool permitted = false;
    OK(fi_setopt(&node.ep->fid, FI_OPT_ENDPOINT, SHARED_MEMORY_PERMITTED, &permitted, sizeof permitted));
}

/* Files of this process may not be as large as the segment; memory without a name is one. */
static void small_files(void)
{
    struct rlimit limit = {.rlim_cur = 64 << 10, .rlim_max = 64 << 10};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "%s", strerror(errno));
}

/* What the provider opens at the beginning is open; the next descriptor is refused. */
static void no_descriptors(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
    limit.rlim_cur = DESCRIPTORS;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
        taken[taken_count++] = fd;
    CHECK(errno == EMFILE, "%s", strerror(errno));
}

static const struct scenario scenarios[] = {
    {"off", switch_off, nothing, nothing, 0, ""},
    {"not permitted", nothing, not_permitted, nothing, 0, ""},
    {"no memory", small_files, nothing, nothing, 1, "datagrams are used instead"},
    {"no descriptor", nothing, nothing, no_descriptors, 1, "datagrams are used instead"},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static void exchange(bool first)
{
    static uint8_t out[LARGE], in[LARGE];
    struct fi_context2 send_context, receive_context;
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct fi_cq_tagged_entry entry;
        size_t length = i % 20 == 19 ? LARGE - i : i;
        words_fill(out, length, 2 * i + first);
        RETRY(&node, fi_trecv(node.ep, in, LARGE, NULL, FI_ADDR_UNSPEC, i, 0, &receive_context));
        RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &send_context));
        completion(&node, &entry);
        completion(&node, &entry);
        CHECK(words_match(in, length, 2 * i + !first), "message %u is wrong", i);
    }
}

/* The lines that are not counters. */
static void check_lines(const struct scenario *scenario, char *text)
{
    unsigned lines = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        CHECK(strncmp(line, "rdgram: ", 8) == 0, "%s: who says so? %s", scenario->name, line);
        CHECK(strstr(line, scenario->part) != NULL, "%s: %s", scenario->name, line);
        lines++;
    }
    CHECK(lines == scenario->lines, "%s: %u lines on stderr instead of %u", scenario->name, lines, scenario->lines);
}

static void try(const struct scenario *scenario)
{
    static char text[STATISTICS_BYTES];
    static const struct scenario willing = {"willing", nothing, nothing, nothing, 0, ""};
    struct wish wish = {0};
    bool first = !start_peer(&peer);
    const struct scenario *mine = first ? scenario : &willing;
    mine->before();
    want_counters();
    struct listening listening = listen_to_stderr();
    open_domain(&node, &wish);
    OK(fi_endpoint(node.domain, node.info, &node.ep, NULL));
    OK(fi_ep_bind(node.ep, &node.av->fid, 0));
    OK(fi_ep_bind(node.ep, &node.cq->fid, FI_TRANSMIT | FI_RECV));
    mine->disabled();
    OK(fi_enable(node.ep));
    node.name_length = sizeof node.name;
    OK(fi_getname(&node.ep->fid, node.name, &node.name_length));
    introduce(&peer, &node);
    mine->known();
    exchange(first);
    meet(&peer, &node);
    while (taken_count > 0)
        close(taken[--taken_count]);
    stop_listening(&listening, text, sizeof text);
    const char *counters = close_and_count(&node);
    CHECK(counter_in(counters, "links") == 0 && counter_in(counters, "local_put") == 0, "%s: %s", scenario->name,
          counters);
    check_lines(mine, text);
    exit(finish_peer(&peer));
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    for (unsigned i = 0; i < SCENARIOS; i++) {
        fflush(NULL);
        pid_t pid = fork_member();
        if (pid == 0)
            try(&scenarios[i]);
        passed(pid, scenarios[i].name);
    }
    return 0;
}
