/*
 * Nothing of shared memory stays: endpoints that met their neighbours through it leave no descriptor and no mapping
 * behind when they close, whether their neighbours are still there, have closed before, or were killed; and a killed
 * process leaves no file.
 */
#include "local.h"
#include <dirent.h>

enum { CYCLES = 12, KINDS = 3, TALK_MS = 40 };

/* How the neighbour ends. */
enum kind { TOGETHER, EARLIER, KILLED };

static struct node node;
static struct peer peer;

static unsigned entries_in(const char *directory, const char *part)
{
    unsigned count = 0;
    DIR *dir = opendir(directory);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strstr(entry->d_name, part) != NULL)
            count++;
    closedir(dir);
    return count;
}

/* Mappings of segments, ours or a neighbour's. */
static unsigned segments(void)
{
    unsigned count = 0;
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL, "%s", strerror(errno));
    while (fgets(line, sizeof line, maps) != NULL)
        count += strstr(line, "memfd:rdgram") != NULL;
    fclose(maps);
    return count;
}

/* Each answers the other for a while. */
static void talk(bool first, enum kind kind)
{
    static uint8_t in[64 << 10], out[sizeof in];
    static struct fi_context2 send_context, receive_context;
    uint64_t end = now_ns() + 1000000u * TALK_MS;
    bool last = false;
    for (unsigned i = 0; !last; i++) {
        struct fi_cq_tagged_entry entry;
        size_t length = i % 8 == 7 ? sizeof out : 8;
        last = first && now_ns() > end;
        RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, i, 0, &receive_context));
        out[0] = last;
        if (first)
            RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &send_context));
        for (unsigned ended = 0; ended < 2;) {
            completion(&node, &entry);
            ended++;
            if (entry.op_context != &receive_context || first)
                continue;
            last = in[0] == 1;
            RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &send_context));
        }
    }
    /* A receive that nothing answers, and a long message that nobody fetches, are left open. */
    RETRY(&node, fi_trecv(node.ep, in, sizeof in, NULL, peer.address, UINT64_MAX, 0, &receive_context));
    if (kind == KILLED)
        RETRY(&node, fi_tsend(node.ep, out, sizeof out, NULL, peer.address, UINT64_MAX - 1, &send_context));
}

static void neighbour(enum kind kind)
{
    talk(false, kind);
    if (kind == KILLED) {
        char token = 'r';
        tell(&peer, &token, 1);
        for (;;)
            pause();
    }
    if (kind == TOGETHER)
        meet(&peer, &node);
    (void)close_and_count(&node);
    exit(finish_peer(&peer));
}

/* Returns how often its neighbour was met through memory. */
static uint64_t cycle(enum kind kind)
{
    if (start_peer(&peer)) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "%s", strerror(errno));
        open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
        introduce(&peer, &node);
        neighbour(kind);
    }
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
    introduce(&peer, &node);
    talk(true, kind);
    if (kind == TOGETHER) {
        meet(&peer, &node);
    } else if (kind == EARLIER) {
        char token;
        CHECK(read(peer.fd, &token, 1) == 0, "the neighbour does not end");
        finish_peer(&peer);
    } else {
        char token;
        hear(&peer, &token, 1);
        CHECK(kill(peer.pid, SIGKILL) == 0, "%s", strerror(errno));
        CHECK(waitpid(peer.pid, NULL, 0) == peer.pid, "%s", strerror(errno));
    }
    const char *counters = close_and_count(&node);
    if (kind == TOGETHER)
        finish_peer(&peer);
    close(peer.fd);
    return counter_in(counters, "links");
}

int main(void)
{
    unsigned descriptors = 0, files = entries_in("/dev/shm", "rdgram");
    uint64_t links = 0;
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own shared memory");
    want_counters();
    for (unsigned i = 0; i < CYCLES; i++) {
        links += cycle(i % KINDS);
        unsigned now = entries_in("/proc/self/fd", "");
        /* The first opening of the library may leave some of its own. */
        if (i < KINDS)
            descriptors = now > descriptors ? now : descriptors;
        CHECK(now <= descriptors, "%u descriptors after cycle %u, %u before", now, i, descriptors);
        CHECK(segments() == 0, "%u segments are still mapped after cycle %u", segments(), i);
    }
    CHECK(links >= CYCLES / 2, "only %" PRIu64 " neighbours were met through memory in %d cycles", links, CYCLES);
    CHECK(entries_in("/dev/shm", "rdgram") == files, "there are new files in /dev/shm");
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "there are processes left");
    printf("%d cycles, %" PRIu64 " neighbours met, %u descriptors\n", CYCLES, links, descriptors);
    return 0;
}
