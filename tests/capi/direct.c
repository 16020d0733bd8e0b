/*
 * FI_RDGRAM_DIRECT: whatever it says, long messages and reads arrive byte for byte, one by one and several at
 * once, into buffers that nothing is written beside; and with `force` most of their bytes need no copy.
 */
#include "harness.h"

enum { AT_ONCE = 6, LARGEST = 3 << 20, ROUNDS = 4, AROUND = 64, BLANK = 0xee };

static struct node node;
static struct peer peer;
static uint8_t buffers[AT_ONCE][LARGEST + AROUND];
static const size_t sizes[AT_ONCE] = {LARGEST, 1 << 20, 100000, 65453 * 4, 8946 * 20, 20001};

static struct fid_mr *region;
struct remote {
    uint64_t base, key;
};

static void check(int i, uint64_t seed, const char *what)
{
    pattern_check(buffers[i], sizes[i], seed, what);
    for (int at = 0; at < AROUND; at++)
        CHECK(buffers[i][sizes[i] + at] == BLANK, "%s: written beside the buffer", what);
}

static void wait_for(int count)
{
    struct fi_cq_tagged_entry entry;
    while (count-- > 0)
        completion(&node, &entry);
}

static void send_and_show(void)
{
    static struct fi_context2 contexts[AT_ONCE];
    for (int round = 0; round < ROUNDS; round++) {
        meet(&peer, &node);
        for (int i = 0; i < AT_ONCE; i++) {
            pattern_fill(buffers[i], sizes[i], (uint64_t)(round * AT_ONCE + i));
            RETRY(&node, fi_tsend(node.ep, buffers[i], sizes[i], NULL, peer.address, (uint64_t)i, &contexts[i]));
            /* Alone at first, then all at once. */
            if (round == 0)
                wait_for(1);
        }
        wait_for(round == 0 ? 0 : AT_ONCE);
        meet(&peer, &node);
    }
    OK(fi_mr_reg(node.domain, buffers[0], sizes[0], FI_REMOTE_READ, 0, 7, 0, &region, NULL));
    struct remote remote = {.key = fi_mr_key(region)};
    remote.base = node.info->domain_attr->mr_mode & FI_MR_VIRT_ADDR ? (uintptr_t)buffers[0] : 0;
    tell(&peer, &remote, sizeof remote);
    meet(&peer, &node);
    OK(fi_close(&region->fid));
}

static void receive_and_read(void)
{
    static struct fi_context2 contexts[AT_ONCE];
    struct remote remote;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            memset(buffers[i], BLANK, sizeof buffers[i]);
            RETRY(&node, fi_trecv(node.ep, buffers[i], sizes[i], NULL, FI_ADDR_UNSPEC, (uint64_t)i, 0, &contexts[i]));
        }
        meet(&peer, &node);
        wait_for(AT_ONCE);
        for (int i = 0; i < AT_ONCE; i++)
            check(i, (uint64_t)(round * AT_ONCE + i), "received");
        meet(&peer, &node);
    }
    hear(&peer, &remote, sizeof remote);
    memset(buffers[0], BLANK, sizeof buffers[0]);
    RETRY(&node, fi_read(node.ep, buffers[0], sizes[0], NULL, peer.address, remote.base, remote.key, &contexts[0]));
    wait_for(1);
    check(0, (ROUNDS - 1) * AT_ONCE, "read");
    meet(&peer, &node);
}

/* A counter of the endpoint, as it is printed when that closes. */
static uint64_t counter(FILE *printed, const char *name)
{
    char line[256], found[64];
    uint64_t value;
    rewind(printed);
    while (fgets(line, sizeof line, printed) != NULL)
        if (sscanf(line, "rdgram: %*s %63s %" SCNu64, found, &value) == 2 && strcmp(found, name) == 0)
            return value;
    FAIL("the counter %s is not printed", name);
}

static void close_and_count(const char *mode)
{
    int stderr_kept = dup(STDERR_FILENO);
    FILE *printed = tmpfile();
    CHECK(stderr_kept >= 0 && printed != NULL, "%s", strerror(errno));
    dup2(fileno(printed), STDERR_FILENO);
    close_node(&node);
    dup2(stderr_kept, STDERR_FILENO);
    uint64_t placed = counter(printed, "rx_placed_bytes"), direct = counter(printed, "rx_direct_bytes");
    CHECK(placed > ROUNDS * (uint64_t)LARGEST && direct <= placed, "%" PRIu64 " of %" PRIu64, direct, placed);
    if (strcmp(mode, "force") == 0)
        CHECK(direct * 2 > placed, "only %" PRIu64 " of %" PRIu64 " bytes", direct, placed);
    if (strcmp(mode, "off") == 0)
        CHECK(direct == 0, "%" PRIu64 " bytes", direct);
}

/* In a process of its own: settings are read once. */
static void run(const char *mode)
{
    fflush(NULL);
    pid_t pid = fork();
    int status;
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        setenv("FI_RDGRAM_DIRECT", mode, 1);
        setenv("FI_RDGRAM_LOCAL", "off", 1); /* this is about datagrams */
        bool second = start_peer(&peer);
        setenv("FI_RDGRAM_STATS", second ? "0" : "1", 1);
        open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_RMA});
        introduce(&peer, &node);
        if (second) {
            send_and_show();
            close_node(&node);
        } else {
            receive_and_read();
            close_and_count(mode);
        }
        exit(finish_peer(&peer));
    }
    CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status 0x%x", mode, (unsigned)status);
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("this is about how this provider receives");
    run("off");
    run("auto");
    run("force");
    return 0;
}
