/*
 * What the programs with many endpoints share: processes that hold them, on two hosts where there are two
 * (RDGRAM_NET_A and RDGRAM_NET_B of tests/net/hosts.sh), and what the kernel says about a process.
 */
#ifndef RDGRAM_BENCH_MANY_H
#define RDGRAM_BENCH_MANY_H

#include "../capi/harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>

/* Holders answer their parent at least this often. */
enum { READS_PER_LOOK = 64 };
/* Endpoints of which there are many have little to do each. */
enum { QUEUE_ENTRIES = 16 };

/* Endpoints of one domain, of one process. */
struct many {
    struct node node; /* without an endpoint of its own */
    size_t count;
    struct fid_ep **endpoints;
    uint8_t (*names)[NAME_BYTES];
    size_t name_length;
};

UNUSED static void *must_allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    CHECK(memory != NULL, "no memory for %zu x %zu bytes", count, bytes);
    return memory;
}

/* Touched, so that later growth is not this program's. */
UNUSED static void *must_touch(size_t count, size_t bytes)
{
    return memset(must_allocate(count, bytes), 0x5a, count * bytes);
}

UNUSED static size_t number_argument(const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    CHECK(*text != '\0' && *end == '\0' && number > 0, "not a number: %s", text);
    return number;
}

/* Moves this process to a host, if the command runs among hosts. To be called before anything of libfabric. */
UNUSED static void enter_host(const char *variable)
{
    char path[300];
    const char *name = getenv(variable);
    if (name == NULL)
        return;
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    CHECK(setns(fd, CLONE_NEWNET) == 0, "%s: %s", path, strerror(errno));
    close(fd);
}

UNUSED static void open_many(struct many *many, size_t count)
{
    struct wish wish = {0};
    open_domain(&many->node, &wish);
    /* Some providers set aside megabytes for the queues of every endpoint. */
    many->node.info->tx_attr->size = QUEUE_ENTRIES;
    many->node.info->rx_attr->size = QUEUE_ENTRIES;
    many->count = count;
    many->endpoints = must_allocate(count, sizeof *many->endpoints);
    many->names = must_allocate(count, sizeof *many->names);
    for (size_t i = 0; i < count; i++) {
        OK(fi_endpoint(many->node.domain, many->node.info, &many->endpoints[i], NULL));
        OK(fi_ep_bind(many->endpoints[i], &many->node.av->fid, 0));
        OK(fi_ep_bind(many->endpoints[i], &many->node.cq->fid, FI_TRANSMIT | FI_RECV));
        OK(fi_enable(many->endpoints[i]));
        many->name_length = NAME_BYTES;
        OK(fi_getname(&many->endpoints[i]->fid, many->names[i], &many->name_length));
    }
}

UNUSED static void close_many(struct many *many)
{
    for (size_t i = 0; i < many->count; i++)
        OK(fi_close(&many->endpoints[i]->fid));
    free(many->endpoints);
    free(many->names);
    close_node(&many->node);
}

/* One completion if there is one; an error ends the program. */
UNUSED static bool take(struct node *node, struct fi_cq_tagged_entry *entry)
{
    return completion_within(node, entry, 0) != 0;
}

/* Has the other process said something? */
UNUSED static bool is_called(struct peer *peer)
{
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    return poll(&wait, 1, 0) > 0;
}

/* The number before the unit in a line "NAME: 123 kB" of a file of /proc. */
UNUSED static long kilobytes_of(const char *path, const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL, "%s: %s", path, strerror(errno));
    while (value < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name), NULL, 10);
    fclose(file);
    CHECK(value >= 0, "%s does not tell %s", path, name);
    return value;
}

/* Memory of this process, exact: the counter in /proc/self/status lags. */
UNUSED static long resident_kb(void)
{
    return kilobytes_of("/proc/self/smaps_rollup", "Rss:");
}

/* Structures of the kernel, of the whole machine. */
UNUSED static long slab_kb(void)
{
    return kilobytes_of("/proc/meminfo", "SUnreclaim:");
}

/* Calls back for every open descriptor; returns how many there are. */
UNUSED static int each_descriptor(void (*visit)(const char *target, void *argument), void *argument)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL, "/proc/self/fd: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char target[256];
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        if (length < 0 || atoi(entry->d_name) == dirfd(directory))
            continue;
        target[length] = '\0';
        count++;
        if (visit != NULL)
            visit(target, argument);
    }
    closedir(directory);
    return count;
}

struct drop_search {
    unsigned long inode, drops;
    bool found;
};

UNUSED static void match_socket(const char *target, void *argument)
{
    struct drop_search *search = argument;
    unsigned long inode;
    if (sscanf(target, "socket:[%lu]", &inode) == 1 && inode == search->inode)
        search->found = true;
}

/* Datagrams that the kernel dropped at this process's UDP sockets. */
UNUSED static unsigned long dropped_here(void)
{
    static const char *const tables[] = {"/proc/self/net/udp", "/proc/self/net/udp6"};
    unsigned long total = 0;
    for (size_t i = 0; i < 2; i++) {
        char line[512];
        FILE *file = fopen(tables[i], "r");
        if (file == NULL)
            continue;
        while (fgets(line, sizeof line, file) != NULL) {
            struct drop_search search = {0};
            if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %*s %*s %lu", &search.inode, &search.drops) != 2)
                continue;
            each_descriptor(match_socket, &search);
            if (search.found)
                total += search.drops;
        }
        fclose(file);
    }
    return total;
}

#endif
