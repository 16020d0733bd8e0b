/*
 * What a user is told on stderr when something outside of the program is wrong: one line for each cause, with
 * the addresses and the remedy, and not a word when nothing is wrong. Nothing ever goes to stdout.
 *
 * Each scenario is a process of its own whose output is read; they run at the same time.
 */
#include "harness.h"
#include <arpa/inet.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/syscall.h>

enum { STRANGERS = 6, STRANGERS_TOLD = 4, PARTS_MAX = 4, TEXT_BYTES = 1 << 16 };

struct scenario {
    const char *name;
    void (*run)(void);
    const char *variable, *value;
    /* Lines expected, each with all of these parts; -1: any number but 0. */
    int lines;
    const char *parts[PARTS_MAX];
};

static struct node node;

static int bound_socket(struct sockaddr_in *name)
{
    socklen_t length = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)name, sizeof *name) == 0, "%s", strerror(errno));
    CHECK(getsockname(fd, (struct sockaddr *)name, &length) == 0, "%s", strerror(errno));
    return fd;
}

static void progress_for(double seconds)
{
    double limit = now_seconds() + seconds;
    while (now_seconds() < limit) {
        progress(&node);
        usleep(1000);
    }
}

static void nothing_is_wrong(void)
{
    uint64_t word = 1, in;
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    open_node(&node, &(struct wish){0});
    fi_addr_t self = insert(&node, node.name);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &receive_context));
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, self, 1, &send_context));
    completion(&node, &entry);
    completion(&node, &entry);
    close_node(&node);
    exit(0);
}

/* Sockets that take everything and say nothing, as behind a firewall. */
static void strangers_say_nothing(void)
{
    static struct fi_context2 contexts[STRANGERS];
    static uint64_t word = 1;
    struct sockaddr_in name;
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN});
    for (unsigned i = 0; i < STRANGERS; i++) {
        (void)bound_socket(&name);
        RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, insert(&node, &name), 1, &contexts[i]));
    }
    progress_for(14);
    _exit(0);
}

static struct peer peer;

static void answer_once(void)
{
    uint64_t in;
    struct fi_context2 context;
    struct fi_cq_tagged_entry entry;
    /* Else a thread of the provider's answers in its place, and nothing is to be told. */
    setenv("FI_RDGRAM_PROGRESS", "manual", 1);
    open_node(&node, &(struct wish){0});
    introduce(&peer, &node);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, &context));
    completion_of(&node, &context, &entry);
    meet(&peer, &node);
    for (;;)
        pause();
}

/* It computes for 17 seconds, and then it is killed: nothing is in flight, and both are noticed. */
static void peer_computes_and_is_killed(void)
{
    static uint64_t word = 1, in;
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    struct fi_cq_err_entry error;
    if (start_peer(&peer))
        answer_once();
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_DIRECTED_RECV});
    introduce(&peer, &node);
    RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, peer.address, 1, &send_context));
    completion_of(&node, &send_context, &entry);
    meet(&peer, &node);
    RETRY(&node, fi_trecv(node.ep, &in, sizeof in, NULL, peer.address, 2, 0, &receive_context));
    progress_for(17);
    no_completion(&node);
    CHECK(kill(peer.pid, SIGKILL) == 0, "%s", strerror(errno));
    CHECK(waitpid(peer.pid, NULL, 0) == peer.pid, "%s", strerror(errno));
    error_completion_at(__FILE__, __LINE__, &node, &error, 10);
    CHECK(error.err == FI_ECONNREFUSED && error.op_context == &receive_context, "error %d", error.err);
    _exit(0);
}

/* The first packet of a second version of the protocol, as the first version knows of it. */
static void another_version(void)
{
    uint8_t foreign[104] = {0x21, 0x01};
    struct sockaddr_in name;
    int fd = bound_socket(&name);
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN});
    for (int i = 0; i < 10; i++)
        CHECK(sendto(fd, foreign, sizeof foreign, 0, (void *)node.name, sizeof name) > 0, "%s", strerror(errno));
    progress_for(0.1);
    _exit(0);
}

static void memory_is_full(void)
{
    static uint8_t in[8];
    ssize_t result;
    open_node(&node, &(struct wish){0});
    do
        result = fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, NULL);
    while (result == 0);
    RETURNS(-FI_ENOMEM, result);
    for (int i = 0; i < 3; i++) {
        progress(&node);
        RETURNS(-FI_ENOMEM, fi_trecv(node.ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, 1, 0, NULL));
    }
    _exit(0);
}

static void interface_is_missing(void)
{
    struct fi_info *hints = make_hints(&(struct wish){0}), *info;
    for (int i = 0; i < 2; i++)
        RETURNS(-FI_ENODATA, fi_getinfo(FI_VERSION(1, 17), NULL, NULL, 0, hints, &info));
    _exit(0);
}

static void nobody_is_there(void)
{
    static uint64_t word = 1;
    struct fi_context2 context;
    struct fi_cq_err_entry error;
    struct sockaddr_in name;
    close(bound_socket(&name));
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN});
    fi_addr_t address = insert(&node, &name);
    for (int i = 0; i < 2; i++) {
        RETRY(&node, fi_tsend(node.ep, &word, sizeof word, NULL, address, 1, &context));
        error_completion(&node, &error);
        CHECK(error.err == FI_ECONNREFUSED, "error %d", error.err);
    }
    _exit(0);
}

static void statistics_with_everything_open(void)
{
    open_node(&node, &(struct wish){0});
    exit(0);
}

/* May not go beyond net.core.rmem_max, and takes nothing of a flood that is larger than that. */
static void receive_buffer_overflows(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint8_t bytes[1000] = {0};
    struct sockaddr_in name;
    size_t limit = 0;
    FILE *file = fopen("/proc/sys/net/core/rmem_max", "r");
    CHECK(file != NULL && fscanf(file, "%zu", &limit) == 1, "net.core.rmem_max cannot be read");
    fclose(file);
    CHECK(syscall(SYS_capget, &header, data) == 0, "%s", strerror(errno));
    data[0].effective &= ~(1u << CAP_NET_ADMIN);
    CHECK(syscall(SYS_capset, &header, data) == 0, "%s", strerror(errno));
    int fd = bound_socket(&name);
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN});
    for (size_t i = 0; i < 2 * limit / sizeof bytes + 1000; i++)
        (void)sendto(fd, bytes, sizeof bytes, 0, (void *)node.name, sizeof name);
    close_node(&node);
    exit(0);
}

static const struct scenario scenarios[] = {
    {"nothing is wrong", nothing_is_wrong, "FI_RDGRAM_STATS", "0", 0, {NULL}},
    {"strangers say nothing", strangers_say_nothing, NULL, NULL, STRANGERS_TOLD,
     {" has had no answer from 127.0.0.1:", " for 10 s", "FI_RDGRAM_IFACE", "FI_RDGRAM_PORT_RANGE"}},
    {"a peer computes", peer_computes_and_is_killed, NULL, NULL, 1,
     {" has not answered for 10 s", "computing, which is no error", "FI_RDGRAM_PEER_TIMEOUT"}},
    {"another version", another_version, NULL, NULL, 1,
     {"another version of the rdgram protocol from 127.0.0.1:", "same release"}},
    {"memory is full", memory_is_full, "FI_RDGRAM_MEMORY_CEILING", "16m", 1,
     {"ceiling of its memory, 16777216 bytes", "FI_RDGRAM_MEMORY_CEILING"}},
    {"an interface is missing", interface_is_missing, "FI_RDGRAM_IFACE", "nosuch0", 1, {"FI_RDGRAM_IFACE=nosuch0"}},
    {"nobody is there", nobody_is_there, NULL, NULL, 1,
     {"operation of 127.0.0.1:", " with 127.0.0.1:", "nobody is bound to the peer's UDP port"}},
    {"statistics", statistics_with_everything_open, "FI_RDGRAM_STATS", "1", -1, {"rdgram: 127.0.0.1:"}},
    {"the receive buffer overflows", receive_buffer_overflows, "FI_RDGRAM_RCVBUF", "1g", 1,
     {"receive buffer was full", "sysctl -w net.core.rmem_max=1073741824"}},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

struct running {
    pid_t pid;
    int output, errors;
};

static struct running start(const struct scenario *scenario)
{
    int output[2], errors[2];
    CHECK(pipe(output) == 0 && pipe(errors) == 0, "%s", strerror(errno));
    pid_t pid = fork();
    CHECK(pid >= 0, "%s", strerror(errno));
    if (pid == 0) {
        dup2(output[1], STDOUT_FILENO);
        dup2(errors[1], STDERR_FILENO);
        begin(scenario->name);
        /* Other providers have things to say of their own. */
        setenv("FI_PROVIDER", "rdgram", 1);
        if (scenario->variable != NULL)
            setenv(scenario->variable, scenario->value, 1);
        scenario->run();
    }
    close(output[1]);
    close(errors[1]);
    return (struct running){pid, output[0], errors[0]};
}

static void read_all(int fd, char *text)
{
    size_t length = 0;
    ssize_t got;
    while (length < TEXT_BYTES - 1 && (got = read(fd, text + length, TEXT_BYTES - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(fd);
}

static int lines_of(const struct scenario *scenario, const char *text)
{
    int lines = 0;
    for (const char *line = text; *line != '\0'; lines++) {
        const char *end = strchr(line, '\n');
        CHECK(end != NULL, "%s: an unfinished line: %s", scenario->name, line);
        char one[4096];
        snprintf(one, sizeof one, "%.*s", (int)(end - line), line);
        for (unsigned i = 0; i < PARTS_MAX && scenario->parts[i] != NULL; i++)
            CHECK(strstr(one, scenario->parts[i]) != NULL, "%s: no \"%s\" in: %s", scenario->name, scenario->parts[i],
                  one);
        CHECK(strncmp(one, "rdgram: ", 8) == 0, "%s: who says so? %s", scenario->name, one);
        line = end + 1;
    }
    return lines;
}

/* The last error of the killed peer is told as well. */
static void forget_line(char *text, const char *part)
{
    char *line = strstr(text, part);
    CHECK(line != NULL, "no \"%s\" in: %s", part, text);
    while (line > text && line[-1] != '\n')
        line--;
    char *end = strchr(line, '\n');
    CHECK(end != NULL, "an unfinished line: %s", line);
    memmove(line, end + 1, strlen(end + 1) + 1);
}

static void judge(const struct scenario *scenario, const struct running *running)
{
    static char output[TEXT_BYTES], errors[TEXT_BYTES];
    int status;
    read_all(running->output, output);
    read_all(running->errors, errors);
    CHECK(waitpid(running->pid, &status, 0) == running->pid, "%s", strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status 0x%x: %s", scenario->name, (unsigned)status, errors);
    CHECK(output[0] == '\0', "%s: printed on stdout: %s", scenario->name, output);
    if (scenario->run == peer_computes_and_is_killed)
        forget_line(errors, "nobody is bound to the peer's UDP port");
    if (scenario->run == statistics_with_everything_open)
        CHECK(strstr(errors, " tx_datagrams ") != NULL && strstr(errors, " rx_dropped 0\n") != NULL, "%s", errors);
    int lines = lines_of(scenario, errors);
    CHECK(lines == scenario->lines || (scenario->lines < 0 && lines > 0), "%s: %d lines instead of %d: %s",
          scenario->name, lines, scenario->lines, errors);
}

int main(void)
{
    struct running running[SCENARIOS];
    begin("");
    if (!provider_is_ours())
        skip("this is about the provider's own words");
    unsetenv("FI_LOG_LEVEL");
    for (unsigned i = 0; i < SCENARIOS; i++)
        running[i] = start(&scenarios[i]);
    for (unsigned i = 0; i < SCENARIOS; i++)
        judge(&scenarios[i], &running[i]);
    return 0;
}
